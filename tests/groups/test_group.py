"""StreamGroup: counting, kicking and ending streams, from any thread, in one event loop after another."""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from sse_trio import (
    CloseReason,
    EventSendChannel,
    EventSourceResponse,
    ServerSentEvent,
    StreamGroup,
    StreamGroupStatistics,
    StreamStatistics,
)
from sse_trio._groups.group import current_run, default_group, group_state_of, run_of
from sse_trio._groups.statistics import StreamTotals
from sse_trio._loops.ticker import Entry
from sse_trio.testing import open_test_stream, virtual_backend, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio

Shutdown = Any


class Member:
    """A stream as a group sees it."""

    def __init__(self, server_shutdown: Shutdown = None, **labels: str) -> None:
        self.number = 0
        self.labels = labels
        self.server_shutdown = server_shutdown
        self.in_worker = False
        self.tick_entry: Entry | None = None
        self.ended: list[CloseReason] = []

    def end(self, reason: CloseReason, /) -> None:
        """Note why."""
        self.ended.append(reason)

    def statistics(self, now: float) -> StreamStatistics:
        """Say that nothing has happened yet."""
        return StreamStatistics(
            number=self.number,
            path="/",
            labels=self.labels,
            topics=(),
            age=now,
            first_event_after=None,
            written_events=0,
            written_bytes=0,
            buffered_events=0,
            buffered_bytes=0,
            lag=None,
            dropped=0,
            writing_for=None,
            stalls=0,
            close_reason=self.ended[0] if self.ended else None,
        )

    def add_to(self, totals: StreamTotals) -> None:
        """Have one event written, of ten bytes."""
        totals.written_events += 1
        totals.written_bytes += 10

    def tick(self, now: float) -> float:
        """Never be due."""
        return math.inf


@contextmanager
def member_of(group: StreamGroup, *args: Any, **labels: str) -> Iterator[Member]:
    """A stream that is open in this block."""
    member = Member(*args, **labels)
    run = run_of(group)
    run.add(member)
    run.watch_over(member)
    try:
        yield member
    finally:
        run.discard(member, CloseReason.COMPLETED)


def run_each(async_fn: Callable[[], Awaitable[None]], name: str) -> None:
    """Run in a new event loop, in virtual time."""
    backend, options = virtual_backend(name)
    anyio.run(async_fn, backend=backend, backend_options=options)


each_loop = pytest.mark.parametrize("name", ["asyncio", "trio"])


# --- arguments


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"shutdown_grace": -1}, ValueError),
        ({"shutdown_grace": math.nan}, ValueError),
        ({"shutdown_grace": math.inf}, ValueError),
        ({"shutdown_grace": "1"}, TypeError),
        ({"shutdown_grace": None}, ValueError),
        ({"reconnect_within": 0}, ValueError),
        ({"reconnect_within": -1}, ValueError),
        ({"reconnect_within": math.nan}, ValueError),
        ({"reconnect_within": math.inf}, ValueError),
        ({"reconnect_within": "1"}, TypeError),
        ({"farewell": "bye"}, TypeError),
        ({"max_streams": 0}, ValueError),
        ({"max_streams": -1}, ValueError),
        ({"max_streams": 1.0}, TypeError),
        ({"max_streams": True}, TypeError),
        ({"max_streams_per": 5}, TypeError),
        ({"max_streams_per": (str,)}, TypeError),
        ({"max_streams_per": (5, str)}, TypeError),
        ({"max_streams_per": (str, 0)}, ValueError),
        ({"max_streams_per": (str, "5")}, TypeError),
        ({"max_streams_per": (anyio.sleep, 5)}, TypeError),
        ({"accept_rate": 0}, ValueError),
        ({"accept_rate": -1}, ValueError),
        ({"accept_rate": math.nan}, ValueError),
        ({"accept_rate": math.inf}, ValueError),
        ({"accept_rate": "1"}, TypeError),
        ({"accept_rate": True}, TypeError),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], error: type[Exception]) -> None:
    """The group refuses a wrong argument when it is made, and names it."""
    with pytest.raises(error, match=next(iter(options))):
        StreamGroup(**options)


def test_made_anywhere() -> None:
    """You can make, inspect and shut down a group without a running event loop."""
    group = StreamGroup(shutdown_grace=1, reconnect_within=10, farewell=ServerSentEvent("bye"), name="app")
    assert group.statistics() == StreamGroupStatistics(
        name="app",
        open_streams=0,
        opened=0,
        closed={},
        refused={},
        written_events=0,
        written_bytes=0,
        dropped=0,
        stalls=0,
        stalled=0,
        shutdown_requested=False,
    )
    assert group.streams() == []
    group.request_shutdown()
    assert group.statistics().shutdown_requested


# --- counting


async def test_statistics() -> None:
    """A group counts the open streams, the opened ones, and how they ended."""
    group = StreamGroup()
    run = run_of(group)
    members = [Member() for _ in range(3)]
    for member in members:
        run.add(member)
        run.watch_over(member)
    run.discard(members[0], CloseReason.COMPLETED)
    run.discard(members[1], CloseReason.DISCONNECTED)
    assert group.statistics() == StreamGroupStatistics(
        name="streams",
        open_streams=1,
        opened=3,
        closed={CloseReason.COMPLETED: 1, CloseReason.DISCONNECTED: 1},
        refused={},
        written_events=3,
        written_bytes=30,
        dropped=0,
        stalls=0,
        stalled=0,
        shutdown_requested=False,
    )
    statistics = group.statistics()
    run.discard(members[2], CloseReason.COMPLETED)
    assert statistics.closed == {CloseReason.COMPLETED: 1, CloseReason.DISCONNECTED: 1}  # a snapshot


async def test_wait_empty() -> None:
    """wait_empty() returns to every task when the last stream is gone; if none is open, it is just a checkpoint."""
    group = StreamGroup()
    returned: list[float] = []

    async def wait() -> None:
        await group.wait_empty()
        returned.append(anyio.current_time())

    for _ in range(2):
        returned.clear()
        async with anyio.create_task_group() as tg:
            with member_of(group), member_of(group):
                tg.start_soon(wait)
                tg.start_soon(wait)
                await wait_all_tasks_blocked()
                assert not returned
        assert len(returned) == 2
    with anyio.CancelScope() as scope:
        await group.wait_empty()
        scope.cancel()
        await group.wait_empty()
    assert scope.cancelled_caught


# --- kicking


async def test_kick_all() -> None:
    """kick() ends every stream and returns how many there were; it is a checkpoint."""
    group = StreamGroup()
    with member_of(group) as first, member_of(group) as second:
        assert await group.kick() == 2
        assert first.ended == second.ended == [CloseReason.KICKED]
    with anyio.CancelScope() as scope:
        scope.cancel()
        await group.kick()
    assert scope.cancelled_caught


async def test_kick_some() -> None:
    """With a predicate, kick() ends only the streams whose labels it accepts."""
    group = StreamGroup()
    with member_of(group, user="1") as first, member_of(group, user="2") as second:
        assert await group.kick(lambda labels: labels["user"] == "2") == 1
        assert (first.ended, second.ended) == ([], [CloseReason.KICKED])


async def test_kick_of_a_name() -> None:
    """A text in place of labels is refused, and the error shows labels."""
    with pytest.raises(TypeError, match=r'predicate must be labels, such as \{"user": "7"\}, or a function of labels'):
        await StreamGroup().kick("7")  # type: ignore[arg-type]


async def test_kick_when_cancelled() -> None:
    """The streams are ended even if kick() is cancelled."""
    group = StreamGroup()
    with member_of(group) as member:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await group.kick()
        assert member.ended == [CloseReason.KICKED]


async def test_predicate_that_raises() -> None:
    """If the predicate raises, no stream is kicked."""
    group = StreamGroup()

    def predicate(labels: Any) -> bool:
        return bool(labels["user"])

    with member_of(group, user="1") as first, member_of(group) as second:
        with pytest.raises(KeyError):
            await group.kick(predicate)
        assert first.ended == second.ended == []


async def test_deprecated_names() -> None:
    """close() and close_stream() still kick streams, and warn at the line that calls them with what to write."""
    group = StreamGroup()
    with member_of(group) as first, member_of(group) as second:
        with pytest.warns(DeprecationWarning, match=r"write StreamGroup\.kick_stream\(\)") as caught:
            assert await group.close_stream(second.number)
        with pytest.warns(DeprecationWarning, match=r"write StreamGroup\.kick\(\)") as caught_too:
            assert await group.close(lambda labels: True) == 2
        assert {warning.filename for warning in (*caught, *caught_too)} == {__file__}
        assert first.ended == [CloseReason.KICKED]


async def test_public_surface() -> None:
    """A group shows what users need and nothing else, and its repr says what it is doing."""
    group = StreamGroup(name="app")
    kicks = {"kick", "kick_stream", "close", "close_stream"}
    shutdown = {"request_shutdown", "shutdown_requested", "wait_shutdown_requested", "wait_empty"}
    views = {"name", "statistics", "streams", "add_observer"}
    assert {name for name in dir(group) if not name.startswith("_")} == kicks | shutdown | views
    assert repr(group) == "<StreamGroup 'app': 0 open>"
    with member_of(group):
        group.request_shutdown()
        assert repr(group) == "<StreamGroup 'app': 1 open, shutting down>"


# --- shutdown


async def test_request_shutdown() -> None:
    """A shutdown ends every open stream, and every new one as soon as it opens."""
    group = StreamGroup()
    with member_of(group) as member:
        group.request_shutdown()
        await wait_all_tasks_blocked()
        assert member.ended == [CloseReason.SHUTDOWN]
    with member_of(group) as late:
        assert late.ended == [CloseReason.SHUTDOWN]
    assert group.statistics().shutdown_requested


async def test_wait_shutdown_requested() -> None:
    """wait_shutdown_requested() returns when the shutdown is requested, or at once if it already was."""
    group = StreamGroup()
    returned = []

    async def wait() -> None:
        await group.wait_shutdown_requested()
        returned.append(None)

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait)
        await wait_all_tasks_blocked()
        assert not returned
        group.request_shutdown()
    await wait()
    assert len(returned) == 2


@each_loop
def test_shutdown_requested_before_the_loop_runs(name: str) -> None:
    """A shutdown that is requested before the event loop starts takes effect once it runs."""
    group = StreamGroup()
    group.request_shutdown()

    async def main() -> None:
        with anyio.fail_after(1):
            await group.wait_shutdown_requested()
        with member_of(group) as member:
            assert member.ended == [CloseReason.SHUTDOWN]

    run_each(main, name)


@pytest.mark.usefixtures("real_clock")
async def test_shutdown_requested_in_a_thread() -> None:
    """Any thread may call request_shutdown(); the streams are ended in their own loop."""
    group = StreamGroup()
    threads = []

    class Noting(Member):
        def end(self, reason: CloseReason, /) -> None:
            threads.append((threading.current_thread(), reason))

    run_of(group).add(Noting())
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            tg.start_soon(group.wait_shutdown_requested)
            await anyio.to_thread.run_sync(group.request_shutdown)
    assert threads == [(threading.current_thread(), CloseReason.SHUTDOWN)]


@pytest.mark.usefixtures("real_clock")
async def test_many_threads_and_the_first_use() -> None:
    """A request from a thread is never lost, even if it comes while the loop uses the group for the first time."""
    for _ in range(50):
        group = StreamGroup()
        thread = threading.Thread(target=group.request_shutdown)
        thread.start()
        with anyio.fail_after(5):
            await group.wait_shutdown_requested()
        thread.join()


# --- the server's own event


async def test_servers_event_ends_its_streams_only() -> None:
    """A server's shutdown event ends the streams of that server, not those of another."""
    group, mine, other = StreamGroup(), anyio.Event(), anyio.Event()
    with member_of(group, mine) as first, member_of(group, other) as second, member_of(group) as third:
        with member_of(group, mine) as fourth:
            mine.set()
            await wait_all_tasks_blocked()
            assert first.ended == fourth.ended == [CloseReason.SHUTDOWN]
        with member_of(group, mine) as late:
            assert late.ended == [CloseReason.SHUTDOWN]
        assert second.ended == third.ended == []
    assert not group.statistics().shutdown_requested


async def test_servers_event_is_watched_no_longer_than_needed() -> None:
    """One task per server waits for its event while streams are open, and none after that."""
    group = StreamGroup()
    waiting = 0

    class Event:
        def is_set(self) -> bool:
            return False

        async def wait(self) -> None:
            nonlocal waiting
            waiting += 1
            try:
                await anyio.sleep_forever()
            finally:
                waiting -= 1

    event = Event()
    for _ in range(2):
        with member_of(group, event), member_of(group, event):
            await wait_all_tasks_blocked()
            assert waiting == 1
        await wait_all_tasks_blocked()
        assert waiting == 0


class Flag:
    """A server without an event, and how often it was looked at."""

    def __init__(self) -> None:
        self.shuts_down = False
        self.looks = 0

    def is_set(self) -> bool:
        """Count, and answer."""
        self.looks += 1
        return self.shuts_down


async def test_server_without_an_event_is_looked_at() -> None:
    """If a server has no shutdown event, its streams notice its shutdown within 0.1 s, and no others do."""
    group, mine, other = StreamGroup(), Flag(), Flag()
    with member_of(group, mine) as first, member_of(group, other) as second, member_of(group, mine) as third:
        await anyio.sleep(0.25)
        assert (mine.looks, other.looks) == (2 + 2, 1 + 2)  # once for each that opens, twice for all of them
        mine.shuts_down = True
        await anyio.sleep(0.101)
        assert first.ended == third.ended == [CloseReason.SHUTDOWN]
        assert second.ended == []
        with member_of(group, mine) as late:
            assert late.ended == [CloseReason.SHUTDOWN]
    looks = mine.looks, other.looks
    await anyio.sleep(10)
    assert (mine.looks, other.looks) == looks
    assert not group.statistics().shutdown_requested


async def test_server_is_looked_at_anew() -> None:
    """When streams open again after all have ended, their server is watched again."""
    group, server = StreamGroup(), Flag()
    for _ in range(2):
        server.shuts_down = False
        with member_of(group, server) as member:
            server.shuts_down = True
            await anyio.sleep(0.101)
            assert member.ended == [CloseReason.SHUTDOWN]


# --- event loops


@each_loop
def test_second_run(name: str) -> None:
    """After one event loop, the group serves the next one and forgets the first server's shutdown."""
    group = StreamGroup()

    async def main() -> None:
        assert run_of(group).streams == set()
        with member_of(group) as member:
            assert member.ended == []
            assert group.statistics().opened == 1
            group.request_shutdown()
            await wait_all_tasks_blocked()
            assert member.ended == [CloseReason.SHUTDOWN]

    for _ in range(3):
        run_each(main, name)


@pytest.mark.usefixtures("real_clock")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_two_loops_at_once() -> None:
    """A group that has streams in one event loop refuses another loop that runs at the same time."""
    group = StreamGroup()

    async def use() -> None:
        with pytest.raises(RuntimeError, match="make one StreamGroup for each event loop"):
            await group.wait_empty()

    with member_of(group):
        await anyio.to_thread.run_sync(run_each, use, "trio")
        assert group.statistics().open_streams == 1


@pytest.mark.usefixtures("real_clock")
async def test_groups_of_two_loops(anyio_backend_name: str) -> None:
    """Two servers in one process, each with its own group, don't disturb each other."""
    mine, other = StreamGroup(), StreamGroup()

    async def serve_and_shut_down() -> None:
        with member_of(other) as member:
            other.request_shutdown()
            await anyio.sleep(0.001)
            assert member.ended == [CloseReason.SHUTDOWN]

    with member_of(mine) as member:
        await anyio.to_thread.run_sync(anyio.run, serve_and_shut_down)
        await anyio.sleep(0.001)
        assert member.ended == []
        mine.request_shutdown()
        await anyio.sleep(0.01)
        assert member.ended == [CloseReason.SHUTDOWN]


@each_loop
def test_default_group(name: str) -> None:
    """Streams without a group share the default group of their event-loop run, and no other run's."""
    groups: list[StreamGroup] = []

    async def main() -> None:
        run = current_run(None)
        assert current_run(None) is run
        assert run_of(default_group()) is run
        groups.append(default_group())
        mine = StreamGroup()
        assert current_run(mine) is run_of(mine) is not run

    run_each(main, name)
    run_each(main, name)
    assert groups[0] is not groups[1]


@each_loop
def test_nothing_is_kept_of_a_run(name: str) -> None:
    """Once an event loop has ended, nothing keeps it alive, neither the default group nor another."""
    held: list[weakref.ref[Any]] = []
    group = StreamGroup()

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("event")
        await anyio.sleep(20)

    async def main() -> None:
        held.append(weakref.ref(anyio.lowlevel.current_token().native_token))
        for group_of_stream in (None, group):
            async with open_test_stream(EventSourceResponse(produce, group=group_of_stream, ping=1)) as stream:
                await stream.receive()
                await anyio.sleep(3)

    run_each(main, name)
    gc.collect()
    assert held[0]() is None


# --- signals


@pytest.fixture
def signals() -> Iterator[list[str]]:
    """What a server notices, that handles SIGTERM and SIGINT as uvicorn does."""
    noticed: list[str] = []

    def handle_exit(number: int, frame: FrameType | None) -> None:
        noticed.append(signal.Signals(number).name)

    before = {number: signal.signal(number, handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    yield noticed
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_signal_requests_the_shutdown(signals: list[str]) -> None:
    """While streams are open, a signal ends them before the server handles it; without streams nothing changes."""
    group = StreamGroup()
    handler = signal.getsignal(signal.SIGTERM)
    with member_of(group) as member:
        signal.raise_signal(signal.SIGTERM)
        await wait_all_tasks_blocked()
        assert member.ended == [CloseReason.SHUTDOWN]
        assert signals == ["SIGTERM"]
    assert signal.getsignal(signal.SIGTERM) is handler


async def test_signal_without_streams(signals: list[str]) -> None:
    """Without open streams, or with ``signals=False``, the server's handlers are left alone."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with member_of(StreamGroup(signals=False)):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    group = StreamGroup()
    with member_of(group):
        assert signal.getsignal(signal.SIGTERM) is not handlers[1]
    signal.raise_signal(signal.SIGTERM)
    assert not group.statistics().shutdown_requested
    assert signals == ["SIGTERM"]


async def test_signal_reaches_every_group(signals: list[str]) -> None:
    """A signal ends the streams of every group, and the server handles it once."""
    first, second = StreamGroup(), StreamGroup()
    with member_of(second) as of_second:
        with member_of(first), member_of(second):
            pass
        with member_of(first) as of_first:
            signal.raise_signal(signal.SIGINT)
            await wait_all_tasks_blocked()
            assert of_first.ended == of_second.ended == [CloseReason.SHUTDOWN]
    assert signals == ["SIGINT"]


@pytest.mark.usefixtures("real_clock", "signals")
async def test_signals_in_another_thread() -> None:
    """A group in an event loop of another thread leaves the handlers alone."""
    handler = signal.getsignal(signal.SIGTERM)

    async def main() -> None:
        with member_of(StreamGroup()):
            assert signal.getsignal(signal.SIGTERM) is handler

    await anyio.to_thread.run_sync(anyio.run, main)


# --- a worker's SIGTERM


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The signals that would have ended this process, with their handlers then. SIGTERM has its default action."""
    raised: list[object] = []
    monkeypatch.setattr(signal, "raise_signal", lambda number: raised.append((number, signal.getsignal(number))))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return raised


DIES = [(signal.SIGTERM, signal.SIG_DFL)]


@contextmanager
def worker_member(group: StreamGroup, server_shutdown: Shutdown = None) -> Iterator[Member]:
    """A stream that is open in this block, in a worker process."""
    member, run = Member(server_shutdown), run_of(group)
    member.in_worker = True
    run.add(member)
    run.watch_over(member)
    try:
        yield member
    finally:
        run.discard(member, CloseReason.SHUTDOWN)


async def terminate() -> None:
    """Have SIGTERM come to this process, and everything happen that it leads to."""
    os.kill(os.getpid(), signal.SIGTERM)
    await wait_all_tasks_blocked()


async def test_worker_dies_when_its_streams_have_ended(raised: list[object]) -> None:
    """In a worker process, SIGTERM ends the streams first and then the process."""
    group = StreamGroup()
    with worker_member(group) as member:
        await terminate()
        assert member.ended == [CloseReason.SHUTDOWN]
        assert raised == []
    await wait_all_tasks_blocked()
    assert raised == DIES


async def test_worker_that_ends_by_itself_does_not_die(raised: list[object]) -> None:
    """A worker whose parent also tells it to stop, even a little later, ends in its own way."""
    group, server_shutdown = StreamGroup(), anyio.Event()
    with worker_member(group, server_shutdown):
        await terminate()
    await anyio.sleep(0.1)
    server_shutdown.set()
    await anyio.sleep(10)
    assert raised == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_worker_that_hears_nothing_more_dies(raised: list[object]) -> None:
    """A worker that hears of its end only by the signal exits half a second after its last stream has ended."""
    group, server_shutdown = StreamGroup(), anyio.Event()
    with worker_member(group, server_shutdown):
        await terminate()
    await anyio.sleep(0.4)
    with worker_member(group, server_shutdown) as late:
        assert late.ended == [CloseReason.SHUTDOWN]
        await anyio.sleep(0.2)
        assert raised == []  # not while a stream is open
    await anyio.sleep(0.51)
    assert raised == DIES


async def test_worker_with_several_groups(raised: list[object]) -> None:
    """A worker exits when the streams of all its groups have ended, in whatever order."""
    for first_goes_first in (True, False):
        raised.clear()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        first, second = worker_member(StreamGroup()), worker_member(StreamGroup())
        members = first.__enter__(), second.__enter__()
        await terminate()
        assert [member.ended for member in members] == [[CloseReason.SHUTDOWN]] * 2
        for group in (first, second) if first_goes_first else (second, first):
            assert raised == []
            group.__exit__(None, None, None)
            await wait_all_tasks_blocked()
        assert raised == DIES


async def test_worker_that_was_not_told(raised: list[object]) -> None:
    """Without a signal, or with ``signals=False``, a worker is unchanged once its streams have ended."""
    with worker_member(StreamGroup()):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with worker_member(StreamGroup(signals=False)):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with member_of(StreamGroup()):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    await wait_all_tasks_blocked()
    assert raised == []


async def test_handler_that_was_set_on_top_of_a_worker_s(raised: list[object]) -> None:
    """A handler that is installed after ours and calls it ends the process once the streams have ended."""
    with worker_member(StreamGroup()):
        ours: Any = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, partial(ours))
    os.kill(os.getpid(), signal.SIGTERM)
    await wait_all_tasks_blocked()
    assert raised == DIES


# --- what a group says for its streams


async def wait(send_channel: EventSendChannel) -> None:
    """Be a producer that only waits."""
    await send_channel.send("event")
    await anyio.sleep_forever()


async def test_reconnects_are_spread() -> None:
    """At a shutdown each stream ends with a random ``retry`` within the given seconds; a new one starts with 3000."""
    group = StreamGroup(reconnect_within=10)
    retries = []
    for _ in range(20):
        async with open_test_stream(EventSourceResponse(wait, group=group)) as stream:
            assert (await stream.receive()).data == "event"
            assert stream.body.startswith(b"retry: 3000\n")
            stream.request_shutdown()
            await stream.wait_closed()
            retries.append(int(stream.body.removesuffix(b"\n\n").rpartition(b"retry: ")[2]))
    assert all(0 <= retry <= 10_000 for retry in retries)
    assert len(set(retries)) > 10


async def test_reconnects_with_a_retry_of_the_streams_own() -> None:
    """A stream starts with its own ``retry``; endings other than a shutdown send none."""
    group = StreamGroup(reconnect_within=10)
    async with open_test_stream(EventSourceResponse(wait, group=group, retry=77)) as stream:
        await stream.receive()
        await group.kick()
        await stream.wait_closed()
        assert stream.body == b"retry: 77\ndata: event\n\n"


async def test_retry_is_said_only_where_it_was_changed() -> None:
    """Without ``reconnect_within``, no ``retry`` is added."""
    async with open_test_stream(EventSourceResponse(wait)) as stream:
        await stream.receive()
        stream.request_shutdown()
        await stream.wait_closed()
        assert stream.body == b"data: event\n\n"


async def test_farewell_of_the_group() -> None:
    """The group's farewell is used for every stream that doesn't have its own."""
    group = StreamGroup(farewell=lambda reason: ServerSentEvent(reason.value))
    for own, data in [(None, b"kicked"), (ServerSentEvent("own"), b"own")]:
        async with open_test_stream(EventSourceResponse(wait, group=group, farewell=own)) as stream:
            await stream.receive()
            await group.kick()
            await stream.wait_closed()
            assert stream.body == b"data: event\n\ndata: " + data + b"\n\n"


async def test_shutdown_grace_of_the_group() -> None:
    """At a shutdown, producers get the longer of the response's grace and the group's."""
    for own, of_group, expected in [(0, 5, 5), (7, 5, 7), (0, 0, 0)]:
        group = StreamGroup(shutdown_grace=of_group)
        async with open_test_stream(EventSourceResponse(wait, group=group, grace=own)) as stream:
            await stream.receive()
            began = anyio.current_time()
            group.request_shutdown()
            await stream.wait_closed()
            assert anyio.current_time() - began == expected


async def test_empty_means_on_close_too() -> None:
    """A group is empty only when its streams are completely over, including their ``on_close``."""
    group = StreamGroup()
    closed = []

    async def on_close(reason: CloseReason) -> None:
        await anyio.sleep(2)
        closed.append(reason)

    async with open_test_stream(EventSourceResponse(wait, group=group, on_close=on_close)) as stream:
        await stream.receive()
        group.request_shutdown()
        await group.wait_empty()
        assert closed == [CloseReason.SHUTDOWN]


async def test_shutdown_that_is_withdrawn() -> None:
    """A shutdown that is requested and then withdrawn has no effect, before the group has a loop or after."""
    group = StreamGroup()
    group.request_shutdown()
    group_state_of(group).withdraw_shutdown()
    assert not group.shutdown_requested
    run = run_of(group)
    group_state_of(group).withdraw_shutdown()
    await anyio.wait_all_tasks_blocked()
    assert not run.shutdown.is_set()
    group.request_shutdown()
    await group.wait_shutdown_requested()
    group_state_of(group).withdraw_shutdown()
    await anyio.wait_all_tasks_blocked()
    assert not run.shutdown.is_set()
