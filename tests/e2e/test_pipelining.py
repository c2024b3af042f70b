# A client that sends its next request while its stream is open, and leaves: on every server, loop and HTTP parser.
#
# uvicorn stops reading then, so it doesn't notice that the client has gone, and later tells only the newest request.
#
# Rule: the ping is far away. What ends these streams is the notice that the client has gone, not a write that fails.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ._client import Client
from ._servers import Server, patience, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

PING = 60
BEHIND = b"GET /idle?name=behind HTTP/1.1\r\nhost: localhost\r\n\r\n" * 2
LOOPS_AND_PARSERS = [(loop, http) for loop in ("asyncio", "uvloop") for http in ("httptools", "h11")]


@pytest.fixture(scope="module", params=LOOPS_AND_PARSERS, ids="-".join)
def uvicorn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    loop, http = request.param
    arguments = ("--loop", loop, "--http", http)
    with serve("uvicorn-h11", tmp_path_factory.mktemp("pipelining"), *arguments) as server:
        yield server


@pytest.mark.parametrize("way", [Client.close, Client.reset])
@pytest.mark.parametrize("path", ["/idle", "/ticks", "/wrapped/idle"])
@pytest.mark.parametrize("together", [True, False])
def test_client_leaves(uvicorn: Server, path: str, way: Callable[[Client], None], *, together: bool) -> None:
    """A stream behind which requests wait is disconnected as soon as its client is, and nothing is logged."""
    name = f"{path}-{way.__name__}-{together}"
    for number in range(10):
        leave_with_requests_waiting(uvicorn, f"{path}?ping={PING}&name={name}-{number}", way, together=together)
    for number in range(10):
        closed = uvicorn.wait_report("closed", f"{name}-{number}", within=2.0)
        assert closed.more == {"reason": "disconnected"}
    assert_quiet(uvicorn)


def leave_with_requests_waiting(
    server: Server, target: str, way: Callable[[Client], None], *, together: bool, behind: bytes = BEHIND
) -> None:
    """Open a stream, send requests behind it, at once or later, and leave."""
    client = Client(server.port)
    client.send("GET", target, body=behind if together else b"")
    client.read_head()
    client.read_until(b"data: ")
    if not together:
        client.socket.sendall(behind)
    way(client)


def assert_quiet(server: Server) -> None:
    """Nothing was logged but what a server says when it starts."""
    noise = [line for line in server.log.items if not line.startswith("INFO:")]
    assert noise == []


def test_places_are_free_again(tmp_path: Path) -> None:
    """Streams whose clients left this way don't count for max_streams: the next client is let in."""
    arguments = ("--loop", "asyncio", "--http", "httptools")
    with serve("uvicorn-h11", tmp_path, *arguments, app="limit_app:app") as server:
        for _ in range(3):
            leave_with_requests_waiting(server, "/", Client.close, together=False)
            server.wait_report("closed", "limited", within=2.0)
            server.reports.items.clear()
        with Client(server.port) as client:
            assert client.get("/").status == 200
        assert_quiet(server)


@pytest.mark.parametrize("setup", ["hypercorn-trio", "hypercorn-asyncio"])
@pytest.mark.parametrize("bridge", [True, False])
def test_hypercorn_keeps_nothing(setup: str, tmp_path: Path, *, bridge: bool) -> None:
    """Its streams are disconnected at once, and its own tasks end too: a shutdown needs no graceful timeout."""
    ways = {"close": Client.close, "reset": Client.reset}
    names = [f"{path}-{way}-{number}" for path in ("idle", "ticks") for way in ways for number in range(5)]
    with serve(setup, tmp_path, bridge=bridge) as server:
        for name in names:
            path, way, number = name.split("-")
            target = f"/{path}?ping={PING}&name={name}"
            behind = f"GET /count?name=behind-{name} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
            leave_with_requests_waiting(server, target, ways[way], together=number in "024", behind=behind)
        for name in names:
            assert server.wait_report("closed", name, within=2.0).more == {"reason": "disconnected"}
        # What came later than its stream may not have been read: a RST has the kernel throw it away.
        server.wait_reports("closed", [f"behind-{name}" for name in names if name[-1] in "024"])
        asked = server.terminate()
        assert server.wait_gone(10) - asked < 2 * patience()
        assert "Traceback" not in server.text


@pytest.mark.parametrize("setup", ["hypercorn-trio", "hypercorn-asyncio"])
def test_posted_body_is_cut_short(setup: str, tmp_path: Path) -> None:
    """A client that leaves in the middle of its posted body counts as a disconnect, whichever task writes."""
    names = [f"cut-{number}" for number in range(40)]
    with serve(setup, tmp_path) as server:
        for name in names:
            with Client(server.port) as client:
                client.send("POST", f"/flood?name={name}", "content-length: 100", body=b"the first of it")
                client.read_head()
        for name in names:
            assert server.wait_report("closed", name).more == {"reason": "disconnected"}
        assert "Traceback" not in server.text
