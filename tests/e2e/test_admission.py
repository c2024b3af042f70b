# A storm of connections on a real server: those who are too many are told so, and those who are in don't notice.

from __future__ import annotations

import json
import resource
import selectors
import socket
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from .._volume import volume
from ._servers import Server, patience, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

STREAMS = 50
HZ = 20  # of storm_app.py
CONNECTIONS = volume(2000)
SECONDS = CONNECTIONS / 2000  # in which they all come
BACKLOG = ("--backlog", "2048")


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as the system allows, here and in what is started from here."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < CONNECTIONS + 500:
        pytest.skip(f"a storm of {CONNECTIONS} connections needs as many open files; `ulimit -Hn` is {before[1]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (CONNECTIONS + 500, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Connection:
    """A connection that asks for a stream as soon as it can, and what has come on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))
        self.received = b""
        self.times: list[tuple[float, float]] = []  # when it was published, and when it came

    def ask(self) -> None:
        self.socket.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")

    def receive(self) -> None:
        data, now = self.socket.recv(65_536), time.monotonic()
        assert data, "the server has closed the connection"
        self.received += data if not self.times else b""
        self.times += [(float(line[6:]), now) for line in data.split(b"\n") if line.startswith(b"data: ")]

    @property
    def status(self) -> bytes:
        return self.received[9:12]


class Clients:
    """Connections, all in this thread."""

    def __init__(self, port: int, stack: ExitStack) -> None:
        self._port, self._stack, self._unanswered = port, stack, 0
        self._selector = stack.enter_context(selectors.DefaultSelector())

    def connect(self) -> Connection:
        self._unanswered += 1
        connection = Connection(self._port)
        self._stack.enter_context(connection.socket)
        self._selector.register(connection.socket, selectors.EVENT_WRITE, connection)
        return connection

    def run(self, seconds: float) -> None:
        """Send and take what can be; wait for so long if there is nothing."""
        for key, events in self._selector.select(seconds):
            if events & selectors.EVENT_WRITE:
                key.data.ask()
                self._selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
                continue
            self._unanswered -= not key.data.status
            key.data.receive()
            if key.data.status != b"200":
                self._selector.unregister(key.fileobj)
                key.data.socket.close()

    def run_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.run(left)

    def run_until_answered(self, within: float = 30.0) -> None:
        until = time.monotonic() + within
        while self._unanswered:
            assert time.monotonic() < until, "the server has not answered everybody"
            self.run(0.1)


def counted(server: Server) -> dict[str, object]:
    with urlopen(f"http://127.0.0.1:{server.port}/counted", timeout=10) as response:
        answer: dict[str, object] = json.loads(response.read())
        return answer


@pytest.mark.parametrize("setup", ["uvicorn-httptools", "hypercorn-trio"])
@pytest.mark.usefixtures("many_files")
def test_a_storm_of_connections(setup: str, tmp_path: Path) -> None:
    """Clients that come at 2,000 a second each hear when to come again, and the open streams keep their latency."""
    limit = {"SSE_E2E_MAX_STREAMS": str(STREAMS)}
    with serve(setup, tmp_path, *BACKLOG, app="storm_app:app", **limit) as server, ExitStack() as stack:
        clients = Clients(server.port, stack)
        readers = [clients.connect() for _ in range(STREAMS)]
        clients.run_until_answered()
        began, storm = time.monotonic(), []
        while len(storm) < CONNECTIONS:
            if time.monotonic() - began >= SECONDS * len(storm) / CONNECTIONS:
                storm.append(clients.connect())
            clients.run(0)
        clients.run_until_answered()
        ended = time.monotonic()
        clients.run_for(0.5)

        assert {reader.status for reader in readers} == {b"200"}
        assert {connection.status for connection in storm} == {b"503"}
        assert all(b"\r\nretry-after: " in connection.received for connection in storm)
        assert counted(server) == {"open": STREAMS, "opened": STREAMS, "refused": {"max_streams": CONNECTIONS}}
        came = [[(at, then - at) for at, then in reader.times if began < at < ended] for reader in readers]
        took = [seconds for each in came for _, seconds in each]
        assert len(took) > STREAMS * HZ * SECONDS / 2
        assert median(took) < 0.1 * patience()
        assert max(took) < patience()
        assert all([at for at, _ in each] == [at for at, _ in came[0]] for each in came)  # nobody has missed an event

        readers[0].socket.close()  # a place is free
        until = time.monotonic() + 10
        while (late := stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))) is not None:
            late.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            if late.recv(12).endswith(b" 200"):
                break
            assert time.monotonic() < until, "the place of a client that has gone is never free"
