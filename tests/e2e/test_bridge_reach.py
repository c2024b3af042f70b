# For each server installed: what `_servers/discovery.py` says it reaches in there is there, and does what it says.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ._client import SMALL, Client
from ._servers import Server, serve

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e


def test_reach(server: Server) -> None:
    """The body is told apart everywhere, and the server's notice of its shutdown is one object for all connections."""
    for name in ("reach-1", "reach-2"):
        with Client(server.port) as client:
            assert client.get("/bare/reach").status == 200
            assert client.read_to_end() == b""
        assert server.wait_report("reach", name).more == {"event": True, "same": True, "wait": True}


def test_abort(server: Server) -> None:
    """Aborting drops the connection with a RST in the middle of the body, and the server tells the application."""
    with Client(server.port) as client:
        client.get("/bare/abort")
        assert client.read_chunk() == b"first"
        client.wait_reset(5)
        with pytest.raises(ConnectionResetError):
            client.read_chunk()
    assert server.wait_report("aborted", "abort").more == {"done": [True, True]}
    assert server.wait_report("lost", "abort").more == {"lost": True}


def test_abort_releases_a_stuck_send(server: Server) -> None:
    """A `send` that is stuck on a client that takes nothing comes back once the connection is aborted."""
    with Client(server.port, receive_buffer=SMALL) as client:
        client.get("/bare/stall")
        assert server.wait_report("aborted", "stall").more == {"done": True}
        client.wait_reset(5)
    server.wait_report("released", "stall")


def test_wait_flushed(server: Server, setup: str) -> None:
    """With bytes left in the process the wait goes on until the client has taken them."""
    if setup.startswith(("hypercorn-trio", "hypercorn-serve")):
        pytest.skip("not applicable: trio's send_all leaves nothing in the process")
    with Client(server.port, receive_buffer=SMALL) as client:
        client.get("/bare/flush")
        assert server.wait_report("first", "flush").more == {"flushed": False}
        client.read_to_end()
    server.wait_report("second", "flush")


def test_unread_body_does_not_hide_the_end(server: Server) -> None:
    """A client that posts more than is read ahead and then leaves is noticed, even if its body is not read."""
    with Client(server.port) as client:
        client.send("POST", "/bare/unread", "content-length: 1000000", body=b"x" * 200_000)
        client.read_head()
        client.reset()
    server.wait_report("noticed", "unread")


@pytest.mark.parametrize("setup", ["hypercorn-serve"])
def test_shutdown_event(setup: str, tmp_path: Path) -> None:
    """The worker's event is set as the server shuts down; the CLI's workers show it in test_real_servers.py."""
    with serve(setup, tmp_path) as server, Client(server.port) as client:
        client.get("/bare/shutdown")
        assert client.read_chunk() == b"waiting"
        server.terminate()
        assert client.read_to_end() == b""
        assert server.wait_report("notified", "shutdown").more == {"is_set": True}
        server.wait_gone(10)
