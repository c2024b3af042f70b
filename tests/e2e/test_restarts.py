# Restarts that clients hardly notice, as docs/restarts.md has them: a socket that stays open, two units that take
# turns, and what becomes of hypercorn's workers when one of them is gone.
#
# Rule: the commands are the page's, with the test's application and socket in them.

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from ._client import Client
from ._proxies import serve_proxy
from ._servers import NOTHING, START_WITHIN, Server, serve, serve_command

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[2] / "docs" / "restarts.md"
FAREWELL = b"event: bye\ndata: farewell\n\n"


@contextmanager
def serve_from_socket(server: str, listener: socket.socket, folder: Path) -> Iterator[Server]:
    """Run the page's command for a socket that systemd has opened, which is file descriptor 3 there."""
    [line] = re.findall(rf"(?m)^ExecStart=/srv/app/\.venv/bin/({server} .*\b3\b.*)$", PAGE.read_text(encoding="utf-8"))
    line = re.sub(r"\b3\b", str(listener.fileno()), line).replace("app:app", "apps:app")
    command = [sys.executable, "-m", *shlex.split(line)]
    with serve_command(command, folder, pass_fds=(listener.fileno(),)) as running:
        yield running


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_a_socket_that_stays_open(server: str, tmp_path: Path, certificate: Path) -> None:
    """Streams end with their farewell, and a request that comes between two processes is answered by the second."""
    path = tmp_path / "app.sock"
    with (
        socket.socket(socket.AF_UNIX) as listener,
        serve_proxy("nginx", tmp_path / "nginx", f"unix:{path}", certificate) as proxy,
    ):
        listener.bind(str(path))
        listener.listen()
        with serve_from_socket(server, listener, tmp_path / "first") as first, Client(proxy.port) as client:
            client.send("GET", "/ticks?name=first")
            client.socket.settimeout(START_WITHIN)
            client.read_head()
            client.read_until(b"data: ")
            first.terminate()
            assert client.read_to_end().endswith(FAREWELL)
            first.wait_gone(START_WITHIN)
        with Client(proxy.port) as client:
            client.send("GET", "/idle?name=second")
            client.socket.settimeout(START_WITHIN)
            with serve_from_socket(server, listener, tmp_path / "second"):
                assert client.read_head().status == 200
                client.read_until(b"data: open\n\n")


def both(one: Server, two: Server) -> str:
    """Two servers, in the place of the one that nginx has in docs/deployment.md."""
    return f"127.0.0.1:{one.port}; server 127.0.0.1:{two.port}"


def test_two_units_that_take_turns(tmp_path: Path, certificate: Path) -> None:
    """When one of two servers restarts, the streams of the other go on, and it gets all that come."""
    with (
        serve("hypercorn-trio", tmp_path / "one") as one,
        serve("hypercorn-trio", tmp_path / "two") as two,
        serve_proxy("nginx", tmp_path / "nginx", both(one, two), certificate) as proxy,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(Client(proxy.port)) for _ in range(4)]
        for number, client in enumerate(clients):
            client.get(f"/ticks?name=ticks-{number}")
            client.read_until(b"data: ")
        one.terminate()
        one.wait_gone(START_WITHIN)
        here = one.reported("closed")
        assert len(here) == 2, "nginx gives them streams in turn"
        for number, client in enumerate(clients):
            if f"ticks-{number}" in here:
                assert client.read_to_end().endswith(FAREWELL)
            else:
                client.read_until(b"data: ")
        for number in range(4):
            with Client(proxy.port) as client:
                assert client.get(f"/count?name=count-{number}").status == 200
                assert client.read_to_end().count(b"data: ") == 3


def test_hypercorns_workers_end_together(tmp_path: Path) -> None:
    """When one of hypercorn's workers is killed, it ends them all: those that live end their streams in good order."""
    arguments = ("shutdown_app:app", "--bind", "127.0.0.1:0", "--worker-class", "trio", "--workers", "2")
    with serve_command([sys.executable, "-m", "hypercorn", *arguments], tmp_path) as server, ExitStack() as stack:
        found = server.reports.wait(lambda _: len(server.reported("started")) == 2, START_WITHIN)
        assert found is not NOTHING, server.text
        server.wait_started()
        clients = {f"idle-{n}": stack.enter_context(Client(server.port)) for n in range(6)}
        for name, client in clients.items():
            client.get(f"/idle?name={name}")
            client.read_until(b"data: ")
        workers = sorted(map(int, server.reported("started")), key=lambda pid: serves(pid, clients["idle-0"]))
        killed, survivor = workers
        stays = {name for name, client in clients.items() if serves(survivor, client)}
        assert "idle-0" in stays
        os.kill(killed, signal.SIGKILL)
        server.wait_gone(START_WITHIN)
        assert {name for name, client in clients.items() if ends_in_order(client)} == stays
        assert {name: report.more["reason"] for name, report in server.reported("closed").items()} == dict.fromkeys(
            stays, "shutdown"
        )


def serves(pid: int, client: Client) -> bool:
    """Whether this process has the other end of a client's connection."""
    port = client.socket.getsockname()[1]
    return any(each.raddr and each.raddr[1] == port for each in psutil.Process(pid).net_connections())


def ends_in_order(client: Client) -> bool:
    """Whether a stream ends with its farewell and its final chunk. Otherwise it is cut off."""
    try:
        return client.read_to_end().endswith(FAREWELL)
    except (EOFError, ConnectionError):
        return False
