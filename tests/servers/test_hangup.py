"""A client that hangs up while its server isn't reading is noticed, and nothing is left behind."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import h11
import pytest

from sse_trio import CloseReason
from sse_trio._loops.current import current_loop
from sse_trio._servers import hangup as _hangup
from sse_trio._servers.discovery import connection_of
from sse_trio._servers.hangup import Hangups, current_hangups
from sse_trio._servers.hypercorn import Hypercorn
from sse_trio.testing import wait_all_tasks_blocked

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("real_clock"),
    pytest.mark.skipif(not hasattr(select, "epoll"), reason="not applicable: this system has no epoll"),
]

LOOPS: dict[str, tuple[str, dict[str, Any]]] = {"asyncio": ("asyncio", {}), "trio": ("trio", {})}
if sys.platform != "win32":
    LOOPS["uvloop"] = ("asyncio", {"use_uvloop": True})


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


class Watched:
    """A connection that says how often it has to be asked."""

    def __init__(self, again: int = 0) -> None:
        self.again = again
        self.looks: list[bool] = []
        self.hung_up = anyio.Event()

    def look(self, *, hung_up: bool) -> bool:
        self.looks.append(hung_up)
        if not hung_up:
            return False
        self.again -= 1
        if self.again < 0:
            self.hung_up.set()
        return self.again >= 0


@contextmanager
def connections(count: int = 1) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    pairs = [socket.socketpair() for _ in range(count)]
    yield pairs
    for pair in pairs:
        for end in pair:
            end.close()


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


async def test_hang_up_behind_unread_bytes() -> None:
    """A hang-up behind unread bytes is noticed, and watched until it has been dealt with."""
    before = open_files()
    with connections(2) as [(ours, theirs), (other, _)]:
        hangups = current_hangups()
        assert hangups is not None
        watched, quiet = Watched(again=2), Watched()
        hangups.watch(ours.fileno(), watched)
        hangups.watch(other.fileno(), quiet)
        theirs.send(b"GET /next HTTP/1.1\r\n\r\n")
        await wait_all_tasks_blocked()
        assert watched.looks == []
        theirs.close()
        with anyio.fail_after(5):
            await watched.hung_up.wait()
        await anyio.sleep(0.2)
        assert watched.looks == [True] * 3
        assert True not in quiet.looks
        hangups.forget(ours.fileno(), watched)
        hangups.forget(other.fileno(), quiet)
        hangups.forget(other.fileno(), quiet)  # twice does nothing
    await wait_all_tasks_blocked()
    assert open_files() == before


async def test_connection_that_its_server_has_closed() -> None:
    """A file number that the system has reused belongs to the new connection."""
    hangups = Hangups(current_loop(), select.epoll)
    with connections() as [(ours, theirs)]:
        first, second = Watched(), Watched()
        number = ours.fileno()
        hangups.watch(number, first)
        ours.close()
        theirs.close()
        with connections() as [(again, peer)]:
            assert again.fileno() == number
            hangups.watch(number, second)
            hangups.forget(number, first)
            peer.close()
            with anyio.fail_after(5):
                await second.hung_up.wait()
            assert True not in first.looks
            hangups.watch(peer_number := again.fileno() + 1000, first)  # no open file: it isn't watched
            hangups.forget(peer_number, first)
            hangups.forget(number, second)
    await wait_all_tasks_blocked()


async def test_connection_that_is_closed_before_it_is_forgotten() -> None:
    """Forgetting a connection that the server has closed is not an error, and others stay watched."""
    hangups = Hangups(current_loop(), select.epoll)
    with connections(2) as [(ours, _), (other, theirs)]:
        first, second = Watched(), Watched()
        hangups.watch(number := ours.fileno(), first)
        hangups.watch(other.fileno(), second)
        ours.close()
        hangups.forget(number, first)
        theirs.close()
        with anyio.fail_after(5):
            await second.hung_up.wait()
        hangups.forget(other.fileno(), second)


async def test_connection_whose_server_was_faster_than_epoll() -> None:
    """A connection that its server closes before epoll reports it is still noticed within a second."""
    hangups = Hangups(current_loop(), select.epoll)
    with connections() as [(ours, _)]:
        watched = Watched()
        hangups.watch(number := ours.fileno(), watched)
        ours.close()
        with anyio.fail_after(5):
            while not watched.looks:
                await anyio.sleep(0.05)
        hangups.forget(number, watched)


async def test_system_without_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without epoll nothing is watched, and streams are still served."""
    monkeypatch.delattr(select, "epoll")
    monkeypatch.setattr(_hangup, "_hangups", anyio.lowlevel.RunVar("another"))
    assert current_hangups() is None
    connection = connection_of(Cycle().receive, None)  # type: ignore[arg-type]
    connection.watch_hangup()
    connection.stream_closed(CloseReason.COMPLETED)


class Cycle:
    """What uvicorn has for each request, as far as a lost connection goes."""

    __module__ = "uvicorn.protocols.http.fake_impl"

    def __init__(self, sock: socket.socket | None = None) -> None:
        self.sock = sock
        self.disconnected = self.response_complete = self.more_body = False
        self.response_started = self.chunked_encoding = True
        self.flow = SimpleNamespace(read_paused=True)
        self.message_event = anyio.Event()
        self.transport = self
        self.closing = self.aborted = False

    async def receive(self) -> Any:
        raise NotImplementedError

    def get_extra_info(self, _: str) -> socket.socket | None:
        return self.sock

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.aborted = True


async def test_the_older_request_of_uvicorn_is_marked_lost() -> None:
    """A uvicorn request whose client hangs up behind the next one is marked as uvicorn does it, and dropped."""
    with connections() as [(ours, theirs)]:
        cycle = Cycle(ours)
        connection = connection_of(cycle.receive, None)  # type: ignore[arg-type]
        connection.watch_hangup()
        theirs.close()
        with anyio.fail_after(5):
            await cycle.message_event.wait()
        assert cycle.disconnected
        assert cycle.aborted
        assert connection.is_lost
        assert connection.says_gone(RuntimeError("the handler is closed"))
        connection.stream_closed(CloseReason.DISCONNECTED)


@pytest.mark.parametrize(
    ("state", "again", "told"),
    [
        ({"disconnected": True}, False, False),
        ({"response_complete": True}, False, False),
        ({"closing": True}, False, True),
        ({"more_body": True}, True, False),
        ({"flow": SimpleNamespace(read_paused=False)}, True, False),
        ({}, False, True),
    ],
)
async def test_uvicorn_that_reads_on(state: dict[str, Any], again: bool, told: bool) -> None:
    """uvicorn is left alone while it reads or still passes on a body, because then it notices the end itself."""
    cycle = Cycle()
    vars(cycle).update(state)
    connection: Any = connection_of(cycle.receive, None)  # type: ignore[arg-type]
    assert connection.look(hung_up=True) is again
    assert cycle.message_event.is_set() is told
    assert cycle.aborted is (told and not cycle.closing)


async def test_uvicorn_whose_transport_is_closed_when_the_stream_ends() -> None:
    """However the stream ends, uvicorn doesn't log an incomplete response for a lost connection."""
    cycle = Cycle()
    cycle.closing = True
    connection_of(cycle.receive, None).stream_closed(CloseReason.SHUTDOWN)  # type: ignore[arg-type]
    assert cycle.disconnected


async def test_uvicorn_that_had_lost_it_before() -> None:
    """A connection that is lost before its stream starts to watch is reported at once."""
    with connections() as [(ours, _)]:
        cycle = Cycle(ours)
        cycle.closing = True
        connection: Any = connection_of(cycle.receive, None)  # type: ignore[arg-type]
        connection.watch_hangup()
        assert cycle.disconnected


class Stream:
    """hypercorn's stream, protocol, TCP server and nursery in one, with a request that waits behind the response."""

    __module__ = "hypercorn.protocol.fake"

    def __init__(self, sock: socket.socket | None, **more: Any) -> None:
        self.sock = self.socket = sock
        self.closed = self.closing = False
        self.connection = SimpleNamespace(trailing_data=(b"GET /", False))
        self.put: list[object] = []
        self.told = anyio.Event()
        self.sent: list[object] = []
        self.task_group = self.protocol = self
        self.spawned: list[Any] = []
        vars(self).update(more)

    async def __call__(self, *_: object) -> None:
        raise NotImplementedError

    async def app_put(self, message: object) -> None:
        self.put.append(message)

    async def app_send(self, message: object) -> None:
        self.sent.append(message)
        raise anyio.BrokenResourceError

    def spawn(self, function: Any, *args: object) -> None:
        self.spawned.append((function, *args))
        self.told.set()

    def get_extra_info(self, _: str) -> socket.socket | None:
        return self.sock

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        """Drop the connection."""


class Chain(Stream):
    """The same, each of whose parts leads to the next by a method."""

    def __init__(self, sock: socket.socket | None, *, on_trio: bool, **more: Any) -> None:
        super().__init__(sock, **more)
        server: Any = Stream(sock)
        if on_trio:
            server.stream = SimpleNamespace(socket=sock)
        else:
            server.writer = SimpleNamespace(transport=self)
        protocol: Any = Stream(sock)
        protocol.send = server.app_put
        protocol.spawn, protocol.task_group = self.spawn, self
        protocol.connection = self.connection
        self.send = protocol.app_put


def on_hypercorn(chain: Chain) -> Any:
    return connection_of(None, chain.app_send)  # type: ignore[arg-type]


@pytest.mark.parametrize("on_trio", [True, False])
async def test_hypercorn_is_told(*, on_trio: bool) -> None:
    """A hypercorn request whose client hangs up behind the next one gets its disconnect, and is completed."""
    with connections() as [(ours, theirs)]:
        chain = Chain(ours, on_trio=on_trio)
        connection = on_hypercorn(chain)
        connection.watch_hangup()
        assert chain.spawned == []
        theirs.close()
        with anyio.fail_after(5):
            await chain.told.wait()
        assert chain.spawned == [(chain.app_put, {"type": "http.disconnect"})]
        connection.stream_closed(CloseReason.DISCONNECTED)
        complete = chain.spawned[1][0]
        await complete()
        assert chain.sent == [{"type": "http.response.body", "body": b"", "more_body": False}]


@pytest.mark.parametrize("on_trio", [True, False])
async def test_hypercorn_whose_connection_was_dropped(*, on_trio: bool) -> None:
    """Its request is completed whatever the stream's reason is, such as its lifetime."""
    with connections() as [(ours, _)]:
        chain = Chain(ours, on_trio=on_trio)
        connection = on_hypercorn(chain)
        assert connection.abort()
        connection.stream_closed(CloseReason.LIFETIME)
        assert len(chain.spawned) == 1


@pytest.mark.parametrize("is_complete", [True, False])
async def test_hypercorn_reads_on_after_a_head_that_was_stuck(*, is_complete: bool) -> None:
    """h11 does not have hypercorn wait for the end of a response that hypercorn refuses, and that h11 has begun."""
    h11_connection = h11.Connection(h11.SERVER)
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    h11_connection.receive_data(2 * request)
    while h11_connection.next_event() is not h11.PAUSED:
        pass
    h11_connection.send(h11.Response(status_code=200, headers=[]))
    if is_complete:
        h11_connection.send(h11.EndOfMessage())

    async def recycle() -> None:
        """Do nothing."""

    protocol = Stream(None, stream=None, _maybe_recycle=recycle, connection=h11_connection)
    Hypercorn(Stream(None), protocol, None).stream_closed(CloseReason.SEND_TIMEOUT)
    [(complete,)] = protocol.spawned
    await complete()
    assert h11_connection.our_state is (h11.DONE if is_complete else h11.ERROR)
    if not is_complete:
        with pytest.raises(h11.RemoteProtocolError):
            h11_connection.next_event()


@pytest.mark.parametrize(("is_current", "recycled"), [(True, 1), (False, 0)])
async def test_hypercorn_goes_on_if_the_end_is_refused(*, is_current: bool, recycled: int) -> None:
    """hypercorn's reading task is freed after its turn, even if the end of the response can't be written."""
    stream, calls = Stream(None), []

    async def recycle() -> None:
        calls.append(1)

    protocol = Stream(None, stream=None if is_current else Stream(None), _maybe_recycle=recycle)
    Hypercorn(stream, protocol, None).stream_closed(CloseReason.DISCONNECTED)
    [(complete,)] = protocol.spawned
    await complete()
    assert len(calls) == recycled


@pytest.mark.parametrize("on_trio", [True, False])
async def test_hypercorn_that_has_no_socket(*, on_trio: bool) -> None:
    """Without a socket, as over HTTP/3 or in an unknown hypercorn, nothing is watched."""
    connection = on_hypercorn(Chain(None, on_trio=on_trio))
    connection.watch_hangup()
    for stream in (Chain(None, on_trio=on_trio), SimpleNamespace(closed=False)):
        Hypercorn(stream, None, None).watch_hangup()
    connection.stream_closed(CloseReason.COMPLETED)


async def test_hypercorn_that_had_lost_it_before() -> None:
    """A connection that is lost before its stream starts to watch is reported at once."""
    with connections() as [(ours, _)]:
        chain = Chain(ours, on_trio=False, closing=True)
        on_hypercorn(chain).watch_hangup()
        assert len(chain.spawned) == 1


@pytest.mark.parametrize(
    ("state", "again"),
    [({"closed": True}, False), ({"connection": SimpleNamespace(trailing_data=(b"", False))}, True), ({}, False)],
)
async def test_hypercorn_that_reads_on(state: dict[str, Any], again: bool) -> None:
    """hypercorn is left alone while it reads, because then it notices the end itself."""
    chain = Chain(None, on_trio=True, **state)
    connection = on_hypercorn(chain)
    assert connection.look(hung_up=True) is again
    assert len(chain.spawned) == (state == {})
    connection.stream_closed(CloseReason.COMPLETED)
    assert len(chain.spawned) == (state == {})


async def test_number_that_is_watched_already() -> None:
    """If a file number is still watched for an older connection, that one is checked and replaced."""
    hangups = Hangups(current_loop(), select.epoll)
    with connections() as [(ours, theirs)]:
        first, second = Watched(), Watched()
        hangups.watch(ours.fileno(), first)
        hangups.watch(ours.fileno(), second)
        theirs.close()
        with anyio.fail_after(5):
            await second.hung_up.wait()
        assert first.looks == [False]
        hangups.forget(ours.fileno(), second)
