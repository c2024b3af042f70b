# The servers with several workers, and the one that gives no access to itself: what docs/deployment.md says of each.
#
# Rule 1: the command line is the page's, with the test's application and address in it.
# Rule 2: an event that has come within WAIT has not been pushed out by a later one: `idle` sends one and no ping.

from __future__ import annotations

import re
import shlex
import socket
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from ._client import SMALL, Client
from ._proxies import blocks
from ._servers import NOTHING, START_WITHIN, Server, patience, serve_command, wait_accepting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

SERVERS = {  # what is added to the page's command, and the line in the log that each worker writes when it is ready
    "uvicorn": (("--host", "127.0.0.1", "--port", "{port}"), "Application startup complete"),
    "gunicorn": (("--bind", "127.0.0.1:{port}"), "Application startup complete"),
    "granian": (("--host", "127.0.0.1", "--port", "{port}"), "Started worker-"),
}


def command_of(server: str, port: int) -> list[str]:
    """The page's command for this server."""
    [line] = [line for block in blocks("shell") for line in block.splitlines() if line.startswith(server + " ")]
    extra = [part.format(port=port) for part in SERVERS[server][0]]
    return [sys.executable, "-m", *shlex.split(line.replace("app:app", "apps:app")), *extra]


@contextmanager
def run(server: str, folder: Path) -> Iterator[Server]:
    """Run the page's command until every worker is ready."""
    # Bound and not listening, it keeps the port from others; the servers bind to it as well.
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, server == "granian")
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        command = command_of(server, port)
        workers = int(re.search(r"--workers (\d+)", " ".join(command))[1])
        with serve_command(command, folder) as running:
            running.port = port
            ready = SERVERS[server][1]
            count = running.log.wait(lambda lines: sum(ready in line for line in lines) >= workers, START_WITHIN)
            assert count is not NOTHING, running.text
            wait_accepting(port)  # granian says that a worker has started before it listens, and nothing after that
            yield running


@pytest.fixture(scope="module", params=SERVERS)
def name(request: pytest.FixtureRequest) -> str:
    pytest.importorskip({"gunicorn": "uvicorn_worker"}.get(request.param, request.param))
    return str(request.param)


@pytest.fixture(scope="module")
def server(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run(name, tmp_path_factory.mktemp(name)) as running:
        yield running


def test_first_event(server: Server) -> None:
    """The first event is there without a later one to push it."""
    with Client(server.port) as client:
        client.get("/idle?name=first")
        client.read_until(b"data: open\n\n")


def test_head_without_an_event(server: Server) -> None:
    """A head that is due arrives before there is an event."""
    with Client(server.port) as client:
        assert client.get("/silent?name=silent").status == 200


@pytest.mark.parametrize("way", [Client.close, Client.reset])
@pytest.mark.parametrize("producer", ["idle", "ticks"])
def test_disconnect(server: Server, producer: str, way: Callable[[Client], None]) -> None:
    """A client that goes away, with a FIN or a RST, ends the stream, and its producer has cleaned up."""
    stream = f"{producer}-{way.__name__}"
    with Client(server.port) as client:
        client.get(f"/{producer}?name={stream}")
        client.read_until(b"data: ")
        way(client)
        server.wait_report("cleaned", stream)
    assert server.wait_report("closed", stream).more == {"reason": "disconnected"}


def test_stalled_client(server: Server) -> None:
    """A client that takes nothing ends its stream at send_timeout."""
    with Client(server.port, receive_buffer=SMALL) as client:
        client.get("/flood?name=stalled&send_timeout=1")
        assert server.wait_report("closed", "stalled").more == {"reason": "send_timeout"}


def test_shutdown(name: str, tmp_path: Path) -> None:
    """SIGTERM to the parent: every stream ends with farewell and final chunk, and all processes are gone in time."""
    with run(name, tmp_path) as server, ExitStack() as clients:
        opened = {}
        for stream in (f"{producer}-{n}" for producer in ("idle", "ticks") for n in range(8)):
            opened[stream] = clients.enter_context(Client(server.port))
            opened[stream].get(f"/{stream.partition('-')[0]}?name={stream}")
            opened[stream].read_until(b"data: ")
        asked = server.terminate()
        for client in opened.values():
            assert client.read_to_end().endswith(b"event: bye\ndata: farewell\n\n")
        assert server.wait_gone(12) - asked < 4 * patience()
        server.wait_reports("closed", opened.keys())
        assert {report.more["reason"] for report in server.reported("closed").values()} == {"shutdown"}
