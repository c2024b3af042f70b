# For each server installed: what `_servers.py` says it reaches in there is there, and does what it says.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ._client import SMALL, Client
from ._servers import HYPERCORN, SETUPS, Server, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", params=SETUPS)
def setup(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(setup: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(setup, tmp_path_factory.mktemp(setup), app="reach_app:app") as running:
        yield running


def test_reach(server: Server, setup: str) -> None:
    """The body is told apart everywhere, and hypercorn's shutdown event is one object for all connections."""
    for _ in range(2):
        with Client(server.port) as client:
            assert client.get("/reach").status == 200
            assert client.read_to_end() == b""
    expected = {"event": setup in HYPERCORN, "same": True, "wait": True}
    assert [report.more for report in server.reports.items if report.what == "reach"] == [expected] * 2


def test_abort(server: Server) -> None:
    """Aborting drops the connection with a RST in the middle of the body, and the server tells the application."""
    with Client(server.port) as client:
        client.get("/abort")
        assert client.read_chunk() == b"first"
        client.wait_reset(5)
        with pytest.raises(ConnectionResetError):
            client.read_chunk()
    assert server.wait_report("aborted", "abort").more == {"done": [True, True]}
    assert server.wait_report("lost", "abort").more == {"lost": True}


def test_abort_releases_a_stuck_send(server: Server) -> None:
    """A `send` that is stuck on a client that takes nothing comes back once the connection is aborted."""
    with Client(server.port, receive_buffer=SMALL) as client:
        client.get("/stall")
        assert server.wait_report("aborted", "stall").more == {"done": True}
        client.wait_reset(5)
    server.wait_report("released", "stall")


def test_wait_flushed(server: Server, setup: str) -> None:
    """With bytes left in the process the wait goes on until the client has taken them."""
    if setup in {"hypercorn-trio", "hypercorn-serve"}:
        pytest.skip("not applicable: trio's send_all leaves nothing in the process")
    with Client(server.port, receive_buffer=SMALL) as client:
        client.get("/flush")
        assert server.wait_report("first", "flush").more == {"flushed": False}
        client.read_to_end()
    server.wait_report("second", "flush")


def test_unread_body_does_not_hide_the_end(server: Server) -> None:
    """A client that posts more than is read ahead and then goes away is noticed, though nobody reads its body."""
    size = 1_000_000
    with Client(server.port) as client:
        client.send("POST", "/unread", f"content-length: {size}")
        client.read_head()
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.socket.sendall(b"x" * 100_000_000)
        client.reset()
    server.wait_report("noticed", "unread")


@pytest.mark.parametrize("setup", HYPERCORN)
def test_shutdown_event(setup: str, tmp_path: object) -> None:
    """The worker's shutdown event is set by SIGTERM to the process that the user would send it to."""
    with serve(setup, tmp_path, app="reach_app:app") as server, Client(server.port) as client:  # type: ignore[arg-type]
        client.get("/shutdown")
        assert client.read_chunk() == b"waiting"
        server.terminate()
        assert client.read_to_end() == b""
        assert server.wait_report("notified", "shutdown").more == {"is_set": True}
        server.wait_gone(3)
