"""open_event_channel(): what its two ends promise, in the order of the docstrings."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, WouldBlock

from sse_trio import (
    CloseReason,
    EventChannelStatistics,
    EventReceiveChannel,
    EventSendChannel,
    ServerSentEvent,
    open_event_channel,
)
from sse_trio._channels import pacer
from sse_trio._channels import receive_channel as receive_end
from sse_trio._channels import send_channel as send_end
from sse_trio._channels.ends import state_of
from sse_trio._channels.waiters import NO_RECEIVERS, NO_SENDS
from sse_trio._loops.current import current_loop
from sse_trio._wire.batch import Batch
from sse_trio.testing import wait_all_tasks_blocked

pytestmark = pytest.mark.anyio

Pair = tuple[EventSendChannel, EventReceiveChannel]
OpenPair = Callable[..., Pair]


@pytest.fixture
def open_pair() -> Iterator[OpenPair]:
    """As open_event_channel(), and what a test leaves open is closed after it."""
    ends: list[Any] = []

    def open_pair(*args: Any, **options: Any) -> Pair:
        pair = open_event_channel(*args, **options)
        ends.extend(pair)
        return pair

    yield open_pair
    for end in ends:
        end.close()


@pytest.fixture
def long_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices end by count and size alone: the clock of slices is a real one, and a slow machine would end them."""
    monkeypatch.setattr(pacer, "SLICE_SECONDS", 3600.0)


def by_type(event: ServerSentEvent) -> str | None:
    """The key of an event in the tests of conflation."""
    return event.event


def of_type(kind: str, data: object) -> dict[str, object]:
    """An event that conflates with those of its kind."""
    return {"event": kind, "data": data}


def take_events(receive_channel: EventReceiveChannel) -> list[ServerSentEvent]:
    """Receive what is there now."""
    received = []
    try:
        while True:
            received.append(receive_channel.receive_nowait())
    except (WouldBlock, EndOfStream):
        return received


def take_all(receive_channel: EventReceiveChannel) -> list[str | None]:
    """Receive the data of what is there now."""
    return [event.data for event in take_events(receive_channel)]


class Sending:
    """A send in its own task and cancel scope, and how it ended."""

    def __init__(self, send_channel: EventSendChannel, event: Any) -> None:
        self.scope = anyio.CancelScope()
        self.outcome: str | None = None
        self._send_channel = send_channel
        self._event = event

    async def run(self) -> None:
        """Be the task."""
        with self.scope:
            try:
                await self._send_channel.send(self._event)
            except anyio.get_cancelled_exc_class():
                self.outcome = "cancelled"
                raise
            except (BrokenResourceError, ClosedResourceError) as exc:
                self.outcome = type(exc).__name__
            else:
                self.outcome = "sent"


class Receiving:
    """A receive in its own task and cancel scope, and what it returned."""

    def __init__(self, receive_channel: EventReceiveChannel) -> None:
        self.scope = anyio.CancelScope()
        self.outcome: str | None = None
        self._receive_channel = receive_channel

    async def run(self) -> None:
        """Be the task."""
        with self.scope:
            try:
                self.outcome = (await self._receive_channel.receive()).data
            except anyio.get_cancelled_exc_class():
                self.outcome = "cancelled"
                raise
            except (EndOfStream, ClosedResourceError) as exc:
                self.outcome = type(exc).__name__


Step = Callable[[EventReceiveChannel, EventSendChannel], object]

# --- opening


async def test_data_flows_from_left_to_right(open_pair: OpenPair) -> None:
    """The pair is a send channel and a receive channel; events sent on the first are received from the second."""
    send_channel, receive_channel = open_pair()
    assert isinstance(send_channel, EventSendChannel)
    assert isinstance(receive_channel, EventReceiveChannel)
    event = ServerSentEvent("data", event="kind", id="1", retry=5, comment="c")
    await send_channel.send(event)
    assert await receive_channel.receive() == event


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_buffer_size": 1.5}, TypeError, "must be an int or math.inf"),
        ({"max_buffer_size": math.nan}, TypeError, "must be an int or math.inf"),
        ({"max_buffer_size": "64"}, TypeError, "must be an int or math.inf"),
        ({"max_buffer_size": -1}, ValueError, "must be 0 or more"),
        ({"max_buffer_size": math.inf, "max_buffer_bytes": math.inf}, ValueError, "finite"),
        ({"max_buffer_bytes": 0}, ValueError, "must be more than 0"),
        ({"max_buffer_bytes": math.nan}, ValueError, "must be more than 0"),
        ({"overflow": "drop"}, ValueError, "'wait', 'drop_oldest', 'drop_newest', 'close'"),
        ({"conflate": "key"}, TypeError, "must be a function"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """A wrong argument is refused, and the error says what to write instead."""
    with pytest.raises(error, match=message):
        open_event_channel(**options)


@pytest.mark.parametrize("options", [{"max_buffer_size": math.inf}, {"max_buffer_bytes": math.inf}])
async def test_one_limit_may_be_infinite(open_pair: OpenPair, options: dict[str, float]) -> None:
    """One of the two limits may be infinite, but not both."""
    send_channel, receive_channel = open_pair(**options)
    await send_channel.send("x" * 100_000)
    assert len((await receive_channel.receive()).data or "") == 100_000


@pytest.mark.parametrize("end", [EventSendChannel, EventReceiveChannel])
def test_ends_have_no_public_constructor(end: type) -> None:
    """Only open_event_channel() and clone() make an end."""
    with pytest.raises(TypeError, match="use open_event_channel"):
        end()


# --- what can be sent


@pytest.mark.parametrize(
    ("sendable", "event"),
    [
        ("plain", ServerSentEvent("plain")),
        ("", ServerSentEvent("")),
        ("zwei\nZeilen", ServerSentEvent("zwei\nZeilen")),
        ("Gr\u00fc\u00dfe", ServerSentEvent("Gr\u00fc\u00dfe")),
        (7, ServerSentEvent(7)),
        ({"data": 1, "event": "tick"}, ServerSentEvent(1, event="tick")),
        (ServerSentEvent(comment="c"), ServerSentEvent(comment="c")),
    ],
)
async def test_sendables(open_pair: OpenPair, sendable: Any, event: ServerSentEvent) -> None:
    """Anything that can be sent is received as the ServerSentEvent it stands for, and its bytes are counted exactly."""
    send_channel, receive_channel = open_pair()
    for _ in range(3):  # the slow way, and the fast one
        await send_channel.send(sendable)
    send_channel.send_nowait(sendable)
    assert send_channel.statistics().current_buffer_bytes == 4 * len(event.encode())
    assert take_events(receive_channel) == [event] * 4
    assert send_channel.statistics().current_buffer_bytes == 0


@pytest.mark.parametrize(
    ("sendable", "error"),
    [
        (None, TypeError),
        (True, TypeError),
        (b"bytes", TypeError),
        ([ServerSentEvent("event")], TypeError),
        ({"dta": 1}, TypeError),
        ({"id": "a\nb"}, ValueError),
        ("\ud800", ValueError),
    ],
)
@pytest.mark.usefixtures("long_slices")
async def test_illegal_event_is_not_sent(open_pair: OpenPair, sendable: Any, error: type[Exception]) -> None:
    """An illegal event raises at the line that sends it, and the channel is unchanged."""
    send_channel, receive_channel = open_pair()
    await send_channel.send("before")
    statistics = send_channel.statistics()
    with pytest.raises(error):
        await send_channel.send(sendable)
    with pytest.raises(error):
        send_channel.send_nowait(sendable)
    assert send_channel.statistics() == statistics
    await send_channel.send("after")
    assert take_all(receive_channel) == ["before", "after"]


# --- limits


async def test_limit_of_bytes_is_exact(open_pair: OpenPair) -> None:
    """The channel takes exactly as many bytes on the wire as the limit allows, and not one more."""
    wire = len(ServerSentEvent("1234").encode())
    send_channel, _ = open_pair(max_buffer_bytes=3 * wire)
    await send_channel.send("1234")
    await send_channel.send("1234")
    with pytest.raises(WouldBlock):
        send_channel.send_nowait("12345")
    send_channel.send_nowait("1234")
    with pytest.raises(WouldBlock):
        send_channel.send_nowait("")


@pytest.mark.parametrize("overflow", ["wait", "drop_oldest", "drop_newest", "close"])
async def test_event_larger_than_the_limit_passes_alone(open_pair: OpenPair, overflow: str) -> None:
    """One event larger than ``max_buffer_bytes`` is accepted if the channel is empty."""
    send_channel, receive_channel = open_pair(max_buffer_bytes=10, overflow=overflow)
    await send_channel.send("x" * 100)
    assert take_all(receive_channel) == ["x" * 100]


async def test_send_waits_for_room(open_pair: OpenPair) -> None:
    """A send into a full channel waits for room, and its event is received in order."""
    send_channel, receive_channel = open_pair(1)
    await send_channel.send("first")
    sending = Sending(send_channel, "second")
    async with anyio.create_task_group() as tg:
        tg.start_soon(sending.run)
        await wait_all_tasks_blocked()
        assert sending.outcome is None
        assert send_channel.statistics().tasks_waiting_send == 1
        assert (await receive_channel.receive()).data == "first"
    assert sending.outcome == "sent"
    assert take_all(receive_channel) == ["second"]


async def test_rendezvous(open_pair: OpenPair) -> None:
    """With ``max_buffer_size=0`` a send waits for a receive, and nothing is ever in the buffer."""
    send_channel, receive_channel = open_pair(0)
    with pytest.raises(WouldBlock):
        send_channel.send_nowait("nobody waits")
    async with anyio.create_task_group() as tg:
        tg.start_soon(send_channel.send, "handed over")
        await wait_all_tasks_blocked()
        assert send_channel.statistics().current_buffer_used == 0
        assert receive_channel.receive_nowait().data == "handed over"
        receiving = Receiving(receive_channel)
        tg.start_soon(receiving.run)
        await wait_all_tasks_blocked()
        send_channel.send_nowait("expected")
    assert receiving.outcome == "expected"


# --- overflow


async def test_drop_oldest(open_pair: OpenPair) -> None:
    """``drop_oldest`` makes room by dropping the oldest event, and counts it."""
    send_channel, receive_channel = open_pair(2, overflow="drop_oldest")
    for n in range(4):
        await send_channel.send(n)
    send_channel.send_nowait(4)
    assert send_channel.statistics().events_dropped == 3
    assert take_all(receive_channel) == ["3", "4"]


async def test_drop_oldest_drops_as_many_as_it_must(open_pair: OpenPair) -> None:
    """``drop_oldest`` drops just enough events to fit the bytes of the new one, all of them if necessary."""
    send_channel, receive_channel = open_pair(max_buffer_bytes=100, overflow="drop_oldest")
    for n in range(5):
        await send_channel.send(n)
    await send_channel.send("x" * 70)
    assert send_channel.statistics().events_dropped == 3
    await send_channel.send("x" * 700)
    assert take_all(receive_channel) == ["x" * 700]
    assert send_channel.statistics().events_dropped == 6


@pytest.mark.parametrize("options", [{"max_buffer_size": 2, "overflow": "drop_newest"}])
async def test_drop_newest(open_pair: OpenPair, options: dict[str, Any]) -> None:
    """``drop_newest`` drops an event for which there is not enough room, and counts it."""
    send_channel, receive_channel = open_pair(**options)
    for n in range(4):
        await send_channel.send(n)
    send_channel.send_nowait(4)
    assert send_channel.statistics().events_dropped == 3
    assert take_all(receive_channel) == ["0", "1"]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_dropping_with_a_rendezvous(open_pair: OpenPair, overflow: str) -> None:
    """With a buffer of size 0, an event is dropped unless a receiver is waiting for it."""
    send_channel, receive_channel = open_pair(0, overflow=overflow)
    await send_channel.send("nobody waits")
    assert send_channel.statistics().events_dropped == 1
    receiving = Receiving(receive_channel)
    async with anyio.create_task_group() as tg:
        tg.start_soon(receiving.run)
        await wait_all_tasks_blocked()
        await send_channel.send("expected")
    assert receiving.outcome == "expected"


async def test_overflow_closes(open_pair: OpenPair) -> None:
    """With ``close``, senders get an error that says why; the receiver gets the buffered events and then the end."""
    send_channel, receive_channel = open_pair(2, overflow="close")
    for n in range(2):
        await send_channel.send(n)
    for _ in range(2):
        with pytest.raises(BrokenResourceError, match="fell too far behind"):
            await send_channel.send("too much")
        with pytest.raises(BrokenResourceError, match="fell too far behind"):
            send_channel.send_nowait("too much")
    await send_channel.wait_closing()
    assert [event.data async for event in receive_channel] == ["0", "1"]


async def test_overflow_tells_the_response(open_pair: OpenPair) -> None:
    """The owner of the channel hears of an overflow before the sender gets its error."""
    send_channel, _ = open_pair(1, overflow="close")
    told = []
    state_of(send_channel).on_overflow = lambda: told.append("told")
    send_channel.send_nowait("first")
    with pytest.raises(BrokenResourceError):
        send_channel.send_nowait("second")
    assert told == ["told"]


# --- slices


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One item for each checkpoint that a channel has been through."""
    done: list[None] = []

    async def checkpoint() -> None:
        done.append(None)
        await anyio.lowlevel.checkpoint()

    for end in (send_end, receive_end):
        monkeypatch.setattr(end, "checkpoint", checkpoint)
    return done


async def sends_before_a_checkpoint(send_channel: EventSendChannel, checkpoints: list[None], event: Any) -> int:
    """Send until the next checkpoint, and return how many sends there were before it."""
    passed, sends = len(checkpoints), 0
    while len(checkpoints) == passed:
        await send_channel.send(event)
        sends += 1
    return sends - 1


@pytest.mark.usefixtures("long_slices")
async def test_slice_of_events(open_pair: OpenPair, checkpoints: list[None]) -> None:
    """A send is a checkpoint when 256 events have been sent without the receiver having run."""
    send_channel, _ = open_pair(math.inf)
    assert await sends_before_a_checkpoint(send_channel, checkpoints, "x") == 256
    assert await sends_before_a_checkpoint(send_channel, checkpoints, "x") == 255  # the checkpoint's own was the first


async def test_first_event_of_a_stream(open_pair: OpenPair, checkpoints: list[None]) -> None:
    """A channel that a stream reads takes its first event without a slice; a receiver that waits gets it."""
    send_channel, receive_channel = open_pair(1)
    waiting_channel = receive_channel.clone()
    received: list[ServerSentEvent] = []

    async def receive() -> None:
        with waiting_channel:
            received.append(await waiting_channel.receive())

    async with anyio.create_task_group() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        state_of(receive_channel).bind(current_loop(), "\n", pytest.fail)
        await send_channel.send("first")
        await wait_all_tasks_blocked()
        assert [event.data for event in received] == ["first"]
    state_of(receive_channel).bind(current_loop(), "\n", pytest.fail)
    await send_channel.send("second")
    with pytest.raises(WouldBlock):
        send_channel.send_nowait("third")
    assert take_all(receive_channel) == ["second"]
    assert not checkpoints


async def test_first_event_of_a_stream_that_takes_none(open_pair: OpenPair) -> None:
    """A channel whose receive ends are closed refuses even the first event of a stream."""
    send_channel, receive_channel = open_pair()
    receive_channel.close()
    state_of(receive_channel).bind(current_loop(), "\n", pytest.fail)
    with pytest.raises(BrokenResourceError):
        await send_channel.send("first")


@pytest.mark.usefixtures("long_slices")
async def test_slice_of_bytes(open_pair: OpenPair, checkpoints: list[None]) -> None:
    """A send is a checkpoint when it would go beyond 16 KiB since the receiver ran."""
    send_channel, _ = open_pair(math.inf)
    await send_channel.send("x")
    await send_channel.send("x" * 10_000)
    assert not checkpoints
    await send_channel.send("x" * 10_000)
    assert len(checkpoints) == 1


async def test_slice_of_time(open_pair: OpenPair, checkpoints: list[None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A send is a checkpoint when a millisecond of sending is over."""
    send_channel, _ = open_pair(math.inf)
    now = 1.0
    for module in (pacer, send_end):
        monkeypatch.setattr(module, "perf_counter", lambda: now)
    await send_channel.send("begins a slice")
    for _ in range(20):
        await send_channel.send("x")
    assert not checkpoints
    now += pacer.SLICE_SECONDS
    assert await sends_before_a_checkpoint(send_channel, checkpoints, "x") == 0


@pytest.mark.usefixtures("long_slices")
async def test_slice_of_a_conflating_channel(
    open_pair: OpenPair, checkpoints: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conflating channel ends a slice by time alone, because its events may replace each other."""
    send_channel, _ = open_pair(conflate=lambda _: "one")
    for _ in range(1000):
        await send_channel.send("x")
    assert not checkpoints
    monkeypatch.setattr(pacer, "perf_counter", lambda: math.inf)
    await send_channel.send("x")
    assert len(checkpoints) == 1


async def test_slow_producer_is_not_held_up(open_pair: OpenPair, checkpoints: list[None]) -> None:
    """A send is not a checkpoint if the receiver has run since the last send, however long ago."""
    send_channel, receive_channel = open_pair()
    for _ in range(10):
        await send_channel.send("x")
        await anyio.sleep(1)
        receive_channel.receive_nowait()
    assert not checkpoints


async def test_full_channel_is_a_checkpoint_first(open_pair: OpenPair, checkpoints: list[None]) -> None:
    """A send that finds the channel full lets the receiver run before it waits."""
    send_channel, receive_channel = open_pair(1)
    received: list[str | None] = []

    async def receive() -> None:
        received.extend([event.data async for event in receive_channel])

    async with anyio.create_task_group() as tg:
        tg.start_soon(receive)
        for n in range(5):
            await send_channel.send(n)
        send_channel.close()
    assert received == ["0", "1", "2", "3", "4"]
    assert checkpoints


async def test_flood_does_not_starve_others(open_pair: OpenPair) -> None:
    """A task that does nothing but send lets other tasks run."""
    send_channel, receive_channel = open_pair(10, overflow="drop_oldest")
    others = 0

    async def other() -> None:
        nonlocal others
        while True:
            await anyio.lowlevel.checkpoint()
            others += 1

    async with anyio.create_task_group() as tg:
        tg.start_soon(other)
        for n in range(1000):
            await send_channel.send(n)
        tg.cancel_scope.cancel()
    assert others >= 10
    assert take_all(receive_channel)


@pytest.mark.usefixtures("long_slices")
async def test_flood_is_cancelled_at_its_slices_end(open_pair: OpenPair) -> None:
    """In a cancelled scope, sends succeed to the end of the slice; the send that raises has not been accepted."""
    send_channel, receive_channel = open_pair(math.inf)
    with anyio.CancelScope() as scope:
        scope.cancel()
        sent = 0
        while True:
            await send_channel.send(sent)
            sent += 1
    assert sent == 256
    assert take_all(receive_channel) == [str(n) for n in range(256)]


@pytest.mark.usefixtures("long_slices")
async def test_ending_stream_is_seen_at_once(open_pair: OpenPair) -> None:
    """When the response ends the stream, the very next send is a cancellation point."""
    send_channel, receive_channel = open_pair()
    await send_channel.send("before")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await send_channel.send("in the slice")
        state_of(send_channel).begin_ending(CloseReason.SHUTDOWN)
        await send_channel.send("after")
        pytest.fail("was no cancellation point")  # pragma: no cover
    assert take_all(receive_channel) == ["before", "in the slice"]


async def test_ending_stream_with_grace_still_accepts(open_pair: OpenPair, checkpoints: list[None]) -> None:
    """During the grace events are accepted, and each send is a checkpoint."""
    send_channel, receive_channel = open_pair()
    state_of(send_channel).begin_ending(CloseReason.SHUTDOWN)
    for n in range(3):
        await send_channel.send(n)
    assert len(checkpoints) == 3
    assert take_all(receive_channel) == ["0", "1", "2"]


# --- the receive end


async def test_receive_waits(open_pair: OpenPair) -> None:
    """receive() waits for an event and is then woken by it."""
    send_channel, receive_channel = open_pair()
    receiving = Receiving(receive_channel)
    async with anyio.create_task_group() as tg:
        tg.start_soon(receiving.run)
        await wait_all_tasks_blocked()
        assert send_channel.statistics().tasks_waiting_receive == 1
        await send_channel.send("event")
    assert receiving.outcome == "event"
    assert send_channel.statistics().tasks_waiting_receive == 0


async def test_receive_is_a_checkpoint_now_and_then(open_pair: OpenPair, checkpoints: list[None]) -> None:
    """receive() is a checkpoint at every 256th event that it finds waiting; if cancelled there, it takes no event."""
    send_channel, receive_channel = open_pair(math.inf)
    for n in range(600):
        send_channel.send_nowait(n)
    received = [(await receive_channel.receive()).data for _ in range(256)]
    assert not checkpoints
    with anyio.CancelScope() as scope:
        scope.cancel()
        await receive_channel.receive()
        pytest.fail("was no cancellation point")  # pragma: no cover
    assert len(checkpoints) == 1
    received += [(await receive_channel.receive()).data for _ in range(256)]
    assert len(checkpoints) == 1
    await receive_channel.receive()
    assert len(checkpoints) == 2
    assert received == [str(n) for n in range(512)]


async def test_cancelled_receive_has_no_other_cause(open_pair: OpenPair) -> None:
    """A cancelled receive() has no unrelated exception as its context."""
    _, receive_channel = open_pair()
    with anyio.move_on_after(1):
        try:
            await receive_channel.receive()
        except BaseException as exc:
            assert not isinstance(exc.__context__, WouldBlock)
            raise


async def test_receive_nowait(open_pair: OpenPair) -> None:
    """receive_nowait() returns what is there, and its errors tell an empty channel from an ended one."""
    send_channel, receive_channel = open_pair()
    with pytest.raises(WouldBlock):
        receive_channel.receive_nowait()
    send_channel.send_nowait("event")
    send_channel.close()
    assert receive_channel.receive_nowait().data == "event"
    with pytest.raises(EndOfStream):
        receive_channel.receive_nowait()
    receive_channel.close()
    with pytest.raises(ClosedResourceError):
        receive_channel.receive_nowait()


async def test_end_comes_after_the_last_event(open_pair: OpenPair) -> None:
    """When every send channel is closed, what is buffered is received, then EndOfStream; ``async for`` just ends."""
    send_channel, receive_channel = open_pair()
    with send_channel.clone() as clone:
        send_channel.send_nowait(1)
        send_channel.close()
        clone.send_nowait(2)
    assert [event.data async for event in receive_channel] == ["1", "2"]
    with pytest.raises(EndOfStream):
        await receive_channel.receive()


async def test_end_wakes_every_receiver(open_pair: OpenPair) -> None:
    """Every waiting receiver hears of the end."""
    send_channel, receive_channel = open_pair()
    receivings = [Receiving(receive_channel) for _ in range(3)]
    async with anyio.create_task_group() as tg:
        for receiving in receivings:
            tg.start_soon(receiving.run)
        await wait_all_tasks_blocked()
        send_channel.close()
    assert {receiving.outcome for receiving in receivings} == {"EndOfStream"}


# --- closing, cloning


async def test_sending_on_a_closed_end(open_pair: OpenPair) -> None:
    """Sending on an end that was closed is the sender's mistake, in a slice too."""
    send_channel, _ = open_pair()
    await send_channel.send("begins a slice")
    send_channel.close()
    with pytest.raises(ClosedResourceError):
        await send_channel.send("late")
    with pytest.raises(ClosedResourceError):
        send_channel.send_nowait("late")


async def test_sending_to_nobody(open_pair: OpenPair) -> None:
    """When every receive channel is closed, sends raise and the buffered events are dropped."""
    send_channel, receive_channel = open_pair()
    with receive_channel.clone():
        await send_channel.send("begins a slice")
        receive_channel.close()
        await send_channel.send("there is a clone")
    with pytest.raises(BrokenResourceError, match="is gone; stop sending"):
        await send_channel.send("late")
    with pytest.raises(BrokenResourceError):
        send_channel.send_nowait("late")
    assert send_channel.statistics().current_buffer_used == 0


async def test_closing_while_checkpointing(open_pair: OpenPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end that is closed while a send is at its checkpoint accepts nothing."""
    send_channel, receive_channel = open_pair()

    async def checkpoint() -> None:
        receive_channel.close()

    monkeypatch.setattr(send_end, "checkpoint", checkpoint)
    state_of(send_channel).begin_ending(CloseReason.SHUTDOWN)
    with pytest.raises(BrokenResourceError, match=r"is gone \(shutdown\)"):
        await send_channel.send("late")


async def test_closing_wakes_a_send_on_this_end(open_pair: OpenPair) -> None:
    """close() refuses the sends that wait on this end in other tasks, and no others."""
    send_channel, receive_channel = open_pair(1)
    with send_channel.clone() as clone:
        send_channel.send_nowait("first")
        mine, other = Sending(send_channel, "mine"), Sending(clone, "other")
        async with anyio.create_task_group() as tg:
            for sending in (mine, other):
                tg.start_soon(sending.run)
                await wait_all_tasks_blocked()
            send_channel.close()
            await wait_all_tasks_blocked()
            assert (mine.outcome, other.outcome) == ("ClosedResourceError", None)
            assert [(await receive_channel.receive()).data for _ in range(2)] == ["first", "other"]


async def test_closing_the_receiver_wakes_all_sends(open_pair: OpenPair) -> None:
    """Sends that wait when the last receive channel is closed raise BrokenResourceError."""
    send_channel, receive_channel = open_pair(0)
    sendings = [Sending(send_channel, n) for n in range(3)]
    async with anyio.create_task_group() as tg:
        for sending in sendings:
            tg.start_soon(sending.run)
        await wait_all_tasks_blocked()
        receive_channel.close()
    assert {sending.outcome for sending in sendings} == {"BrokenChannelError"}


async def test_closing_wakes_a_receive_on_this_end(open_pair: OpenPair) -> None:
    """close() of a receive channel refuses the receives that wait on it in other tasks, and no others."""
    send_channel, receive_channel = open_pair()
    with receive_channel.clone() as clone:
        mine, other = Receiving(receive_channel), Receiving(clone)
        async with anyio.create_task_group() as tg:
            for receiving in (mine, other):
                tg.start_soon(receiving.run)
            await wait_all_tasks_blocked()
            receive_channel.close()
            await wait_all_tasks_blocked()
            assert (mine.outcome, other.outcome) == ("ClosedResourceError", None)
            await send_channel.send("event")
        assert other.outcome == "event"


async def test_closing_the_last_receiver_wakes_its_receives(open_pair: OpenPair) -> None:
    """Closing the last receive channel refuses the receives that wait on it, too."""
    _, receive_channel = open_pair()
    receiving = Receiving(receive_channel)
    async with anyio.create_task_group() as tg:
        tg.start_soon(receiving.run)
        await wait_all_tasks_blocked()
        receive_channel.close()
    assert receiving.outcome == "ClosedResourceError"


async def test_closing_twice_does_nothing(open_pair: OpenPair) -> None:
    """Closing an end twice is the same as closing it once."""
    send_channel, receive_channel = open_pair()
    with send_channel.clone(), receive_channel.clone():
        for end in (send_channel, receive_channel):
            end.close()
            end.close()
            await end.aclose()
        statistics = send_channel.statistics()
        assert (statistics.open_send_channels, statistics.open_receive_channels) == (1, 1)


@pytest.mark.parametrize("end", [0, 1])
async def test_aclose_is_a_checkpoint_and_closes(open_pair: OpenPair, end: int) -> None:
    """aclose() closes even when it is cancelled, which it always notices."""
    pair = open_pair()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await pair[end].aclose()
    assert scope.cancelled_caught
    assert "closed" in repr(pair[end])


@pytest.mark.parametrize("end", [0, 1])
async def test_context_managers_close(open_pair: OpenPair, end: int) -> None:
    """``with`` and ``async with`` close the end."""
    with open_pair()[end] as first:
        assert "closed" not in repr(first)
    async with open_pair()[end] as second:
        assert "closed" not in repr(second)
    assert "closed" in repr(first)
    assert "closed" in repr(second)


@pytest.mark.parametrize("end", [0, 1])
async def test_clone_of_a_closed_end(open_pair: OpenPair, end: int) -> None:
    """A closed end can't be cloned."""
    closed = open_pair()[end]
    closed.close()
    with pytest.raises(ClosedResourceError, match="clone it before you close it"):
        closed.clone()


async def test_statistics(open_pair: OpenPair) -> None:
    """Both ends give the same figures of the channel."""
    send_channel, receive_channel = open_pair(3, max_buffer_bytes=999)
    with send_channel.clone():
        for n in range(3):
            await send_channel.send(n)
        await receive_channel.receive()
        expected = EventChannelStatistics(
            current_buffer_used=2,
            max_buffer_size=3,
            current_buffer_bytes=2 * len(b"data: 1\n\n"),
            max_buffer_bytes=999,
            open_send_channels=2,
            open_receive_channels=1,
            tasks_waiting_send=0,
            tasks_waiting_receive=0,
            events_received=1,
            events_dropped=0,
            events_conflated=0,
        )
        assert send_channel.statistics() == receive_channel.statistics() == expected


@pytest.mark.parametrize("end", [0, 1])
async def test_ends_are_freed_by_their_last_reference(end: int) -> None:
    """A closed channel is in no reference cycle, so its last reference frees it without the collector."""
    pair = open_event_channel()
    with pair[0], pair[1]:
        await pair[0].send("event")
        await pair[1].receive()
    freed = [weakref.ref(pair[end])]
    gc.disable()
    try:
        del pair
        assert freed[0]() is None
    finally:
        gc.enable()


# --- what a stream tells its producers


async def test_started(open_pair: OpenPair) -> None:
    """started() tells the response, which may be waiting for it, and doesn't disturb your own receiver."""
    send_channel, receive_channel = open_pair()
    receiving = Receiving(receive_channel)
    async with anyio.create_task_group() as tg:
        tg.start_soon(receiving.run)
        await wait_all_tasks_blocked()
        send_channel.started()
        send_channel.started()
        assert state_of(send_channel).started
        await wait_all_tasks_blocked()
        assert receiving.outcome is None
        send_channel.send_nowait("event")
    assert receiving.outcome == "event"


CLOSE: dict[str, Step] = {
    "the stream ends": lambda _, send_channel: state_of(send_channel).begin_ending(CloseReason.KICKED),
    "the receiver is closed": lambda receive_channel, _: receive_channel.close(),
    "nothing is accepted": lambda receive_channel, _: state_of(receive_channel).refuse_sends(),
}


@pytest.mark.parametrize("close", CLOSE)
async def test_wait_closing(open_pair: OpenPair, close: str) -> None:
    """wait_closing() returns to every waiting task; called after that, it returns at once and is a checkpoint."""
    send_channel, receive_channel = open_pair()
    returned = []

    async def wait() -> None:
        await send_channel.wait_closing()
        returned.append(send_channel.close_reason)

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait)
        tg.start_soon(wait)
        await wait_all_tasks_blocked()
        assert not returned
        CLOSE[close](receive_channel, send_channel)
    assert returned == [CloseReason.KICKED if close == "the stream ends" else None] * 2
    with anyio.CancelScope() as scope:
        await send_channel.wait_closing()
        scope.cancel()
        await send_channel.wait_closing()
    assert scope.cancelled_caught


async def test_close_reason(open_pair: OpenPair) -> None:
    """The reason is None until the stream ends, and the errors of later sends carry it."""
    send_channel, receive_channel = open_pair()
    assert send_channel.close_reason is None
    state_of(send_channel).begin_ending(CloseReason.LIFETIME)
    assert send_channel.close_reason is CloseReason.LIFETIME
    receive_channel.close()
    with pytest.raises(BrokenResourceError, match=r"\(lifetime\)"):
        send_channel.send_nowait("late")


# --- limits, all ways of sending


@pytest.mark.parametrize("size", [0, 1, 2, 64])
async def test_no_more_events_than_the_limit(open_pair: OpenPair, size: int) -> None:
    """The channel never holds more than ``max_buffer_size`` events, however they were sent."""
    send_channel, receive_channel = open_pair(size)
    most = 0

    async def flood() -> None:
        nonlocal most
        for n in range(200):
            await send_channel.send(n)
            most = max(most, send_channel.statistics().current_buffer_used)
        send_channel.close()

    async with anyio.create_task_group() as tg:
        tg.start_soon(flood)
        assert [event.data async for event in receive_channel] == [str(n) for n in range(200)]
    assert most <= max(size, 1)  # with 0, what a receiver waits for is in the buffer until it runs


async def test_rendezvous_holds_nothing_that_nobody_waits_for(open_pair: OpenPair) -> None:
    """With ``max_buffer_size=0``, a second send waits even though the first one met a waiting receiver."""
    send_channel, receive_channel = open_pair(0)
    sent = []

    async def send_two() -> None:
        for n in range(2):
            await send_channel.send(n)
            sent.append(n)

    async with anyio.create_task_group() as tg:
        tg.start_soon(receive_channel.receive)
        await wait_all_tasks_blocked()
        tg.start_soon(send_two)
        await wait_all_tasks_blocked()
        assert sent == [0]
        assert (await receive_channel.receive()).data == "1"
    assert sent == [0, 1]


@pytest.mark.parametrize(
    ("shared", "counter"), [(NO_SENDS, "resuming"), (NO_RECEIVERS, "woken")], ids=["sends", "receivers"]
)
def test_what_stands_for_no_waiters_cannot_change(shared: Any, counter: str) -> None:
    """All channels, of every loop and thread, share one object each until a task first waits: nothing can change it."""
    for name, value in (("queue", []), (counter, 1), ("other", 1)):
        with pytest.raises(AttributeError):
            setattr(shared, name, value)
    with pytest.raises(AttributeError):
        shared.add("a waiter")
    assert (list(shared.queue), getattr(shared, counter)) == ([], 0)


# --- order


async def test_blocked_senders_go_first_come_first_served(open_pair: OpenPair) -> None:
    """Waiting sends are accepted in the order in which they started to wait."""
    send_channel, receive_channel = open_pair(2)
    async with anyio.create_task_group() as tg:
        for n in range(10):
            tg.start_soon(send_channel.send, n)
            await wait_all_tasks_blocked()
        received = []
        while len(received) < 10:
            received += take_all(receive_channel)
            await wait_all_tasks_blocked()
    assert received == [str(n) for n in range(10)]


@pytest.mark.usefixtures("long_slices")
async def test_nobody_overtakes_a_send_that_waits(open_pair: OpenPair) -> None:
    """Small events don't overtake a large one that waits for room, even if there is room for them."""
    send_channel, receive_channel = open_pair(max_buffer_bytes=1000)
    received = []

    async def send_small() -> None:
        await send_channel.send("x" * 500)
        for n in range(20):
            await send_channel.send(n)

    send_channel.send_nowait("x" * 950)
    async with anyio.create_task_group() as tg:
        tg.start_soon(send_small)
        await wait_all_tasks_blocked()
        tg.start_soon(send_channel.send, "y" * 900)
        await wait_all_tasks_blocked()
        receive_channel.receive_nowait()
        await wait_all_tasks_blocked()
        while send_channel.statistics().current_buffer_used:
            received += take_all(receive_channel)
            await wait_all_tasks_blocked()
    assert [data[0] for data in received if data][:2] == ["x", "y"]


@pytest.mark.usefixtures("long_slices")
async def test_no_slice_begins_after_the_end(open_pair: OpenPair) -> None:
    """A send that was accepted just before the receiver closed returns, and the next one raises."""
    send_channel, receive_channel = open_pair(1)
    errors = []

    async def send_two() -> None:
        await send_channel.send("accepted")
        with pytest.raises(BrokenResourceError) as info:
            await send_channel.send("too late")
        errors.append(info.value)

    send_channel.send_nowait("first")
    async with anyio.create_task_group() as tg:
        tg.start_soon(send_two)
        await wait_all_tasks_blocked()
        receive_channel.receive_nowait()
        receive_channel.close()
    assert len(errors) == 1


# --- cancellation of a send


MAKE_ROOM: dict[str, Step] = {
    "receive_nowait": lambda receive_channel, _: receive_channel.receive_nowait(),
    "take_batch": lambda receive_channel, _: state_of(receive_channel).take_batch(),
    "close the receiver": lambda receive_channel, _: receive_channel.close(),
    "close the sender": lambda _, send_channel: send_channel.close(),
    "refuse": lambda receive_channel, _: state_of(receive_channel).refuse_sends(),
}


@pytest.mark.parametrize("order", ["cancel first", "cancel last"])
@pytest.mark.parametrize("step", MAKE_ROOM)
@pytest.mark.parametrize("size", [0, 1])
async def test_cancelled_send_is_accepted_or_raises(open_pair: OpenPair, step: str, order: str, size: int) -> None:
    """A send that is cancelled as it is decided either returns and its event is received, or raises and it isn't."""
    send_channel, receive_channel = open_pair(size)
    if size:
        send_channel.send_nowait("first")
    sending = Sending(send_channel, "second")
    received = []
    async with anyio.create_task_group() as tg:
        tg.start_soon(sending.run)
        await wait_all_tasks_blocked()
        steps = [sending.scope.cancel, lambda: MAKE_ROOM[step](receive_channel, send_channel)]
        for each in steps if order == "cancel first" else steps[::-1]:
            try:
                result = each()
            except WouldBlock:
                continue
            received += [result.data] if isinstance(result, ServerSentEvent) else []
            received += result.body.decode().split() if isinstance(result, Batch) else []
    if not receive_channel._closed:
        received += take_all(receive_channel)
    state = send_channel._state
    if order == "cancel first":
        assert sending.outcome == "cancelled"
    assert (sending.outcome == "sent") == ("second" in received)
    assert (state.senders.resuming, len(state.senders.queue)) == (0, 0)


async def test_send_passes_a_cancelled_one(open_pair: OpenPair) -> None:
    """A cancelled send whose task has not run yet doesn't take room from other sends."""
    send_channel, _ = open_pair(max_buffer_bytes=100)
    send_channel.send_nowait("x" * 50)
    sending = Sending(send_channel, "y" * 90)
    async with anyio.create_task_group() as tg:
        tg.start_soon(sending.run)
        await wait_all_tasks_blocked()
        with pytest.raises(WouldBlock):
            send_channel.send_nowait("overtakes")
        sending.scope.cancel()
        send_channel.send_nowait("passes")


async def test_cancelled_send_lets_a_smaller_one_through(open_pair: OpenPair) -> None:
    """When a large send is cancelled, a smaller one behind it goes on if there is room."""
    send_channel, receive_channel = open_pair(max_buffer_bytes=100)
    send_channel.send_nowait("x" * 50)
    large, small = Sending(send_channel, "y" * 90), Sending(send_channel, "small")
    async with anyio.create_task_group() as tg:
        for sending in (large, small):
            tg.start_soon(sending.run)
            await wait_all_tasks_blocked()
        large.scope.cancel()
        await wait_all_tasks_blocked()
        assert (large.outcome, small.outcome) == ("cancelled", "sent")
    assert take_all(receive_channel) == ["x" * 50, "small"]


# --- cancellation of a receive


@pytest.mark.parametrize("size", [0, 5])
@pytest.mark.parametrize("order", ["leave first", "leave last"])
@pytest.mark.parametrize("leave", ["cancel", "close"])
async def test_receiver_that_leaves_keeps_no_event(open_pair: OpenPair, leave: str, order: str, size: int) -> None:
    """If a waiting receiver is cancelled or closed as an event arrives, it or another receiver gets the event."""
    send_channel, receive_channel = open_pair(size)
    with receive_channel.clone() as other_channel:
        leaver, other = Receiving(receive_channel), Receiving(other_channel)
        async with anyio.create_task_group() as tg:
            for receiving in (leaver, other):
                tg.start_soon(receiving.run)
                await wait_all_tasks_blocked()
            steps = [leaver.scope.cancel if leave == "cancel" else receive_channel.close]
            steps.insert(order == "leave first", lambda: send_channel.send_nowait("event"))
            for step in steps:
                step()
            await wait_all_tasks_blocked()
            assert [leaver.outcome, other.outcome].count("event") == 1
            tg.cancel_scope.cancel()


@pytest.mark.parametrize("leave", ["cancel", "close"])
async def test_rendezvous_with_a_receiver_that_leaves(open_pair: OpenPair, leave: str) -> None:
    """No event is handed to a receiver that was cancelled or closed and has not run yet."""
    send_channel, receive_channel = open_pair(0)
    with receive_channel.clone():
        receiving = Receiving(receive_channel)
        async with anyio.create_task_group() as tg:
            tg.start_soon(receiving.run)
            await wait_all_tasks_blocked()
            receiving.scope.cancel() if leave == "cancel" else receive_channel.close()
            with pytest.raises(WouldBlock):
                send_channel.send_nowait("event")


async def test_receiver_is_woken_for_each_event(open_pair: OpenPair) -> None:
    """Events that arrive before any woken receiver has run wake one receiver each."""
    send_channel, receive_channel = open_pair()
    receivings = [Receiving(receive_channel) for _ in range(3)]
    async with anyio.create_task_group() as tg:
        for receiving in receivings:
            tg.start_soon(receiving.run)
            await wait_all_tasks_blocked()
        for n in range(3):
            send_channel.send_nowait(n)
    assert {receiving.outcome for receiving in receivings} == {"0", "1", "2"}


# --- conflation


async def test_conflating_keeps_every_key(open_pair: OpenPair) -> None:
    """Events with different keys are all received, however fast they are sent."""
    send_channel, receive_channel = open_pair(conflate=by_type)
    for n in range(10):
        await send_channel.send(of_type(str(n), n))
    assert take_all(receive_channel) == [str(n) for n in range(10)]


async def test_conflating_keeps_the_place(open_pair: OpenPair) -> None:
    """An event replaces the one with its key at its position; the key ``None`` matches nothing; all are counted."""
    send_channel, receive_channel = open_pair(conflate=by_type)
    for kind, data in [("a", 1), ("b", 1), (None, 1), ("a", 2), (None, 2), ("a", 3)]:
        await send_channel.send({"event": kind, "data": data})
    statistics = send_channel.statistics()
    assert (statistics.events_conflated, statistics.current_buffer_used) == (2, 4)
    assert [(event.event, event.data) for event in take_events(receive_channel)] == [
        ("a", "3"), ("b", "1"), (None, "1"), (None, "2")
    ]  # fmt: skip
    assert send_channel.statistics().current_buffer_bytes == 0


async def test_conflating_texts(open_pair: OpenPair) -> None:
    """The key function is called with a ServerSentEvent, whatever was sent."""
    send_channel, receive_channel = open_pair(conflate=lambda event: event.data)
    for text in ("same", "same", "other"):
        await send_channel.send(text)
    assert take_all(receive_channel) == ["same", "other"]


async def test_conflating_needs_no_room_for_an_event(open_pair: OpenPair) -> None:
    """In a full buffer an event still replaces one with the same key; an event with a new key waits."""
    send_channel, receive_channel = open_pair(1, conflate=by_type)
    await send_channel.send(of_type("a", 1))
    await send_channel.send(of_type("a", 2))
    with pytest.raises(WouldBlock):
        send_channel.send_nowait(of_type("b", 1))
    assert take_all(receive_channel) == ["2"]


async def test_conflating_keeps_the_limit_of_bytes(open_pair: OpenPair) -> None:
    """A larger event replaces a smaller one only within ``max_buffer_bytes``, or if it is alone."""
    send_channel, receive_channel = open_pair(conflate=by_type, max_buffer_bytes=100)
    send_channel.send_nowait(of_type("a", "x" * 20))
    send_channel.send_nowait(of_type("a", "x" * 200))
    send_channel.send_nowait(of_type("a", "x"))
    send_channel.send_nowait(of_type("b", "x"))
    with pytest.raises(WouldBlock):
        send_channel.send_nowait(of_type("b", "x" * 90))
    async with anyio.create_task_group() as tg:
        tg.start_soon(send_channel.send, of_type("b", "y" * 90))
        await wait_all_tasks_blocked()
        assert receive_channel.receive_nowait().data == "x"
        await wait_all_tasks_blocked()
        assert take_all(receive_channel) == ["y" * 90]  # alone with the one that it replaces, it had room


async def test_conflating_smaller_event_makes_room(open_pair: OpenPair) -> None:
    """A send that waits for bytes goes on when an event is replaced by a smaller one."""
    send_channel, receive_channel = open_pair(conflate=by_type, max_buffer_bytes=100)
    await send_channel.send(of_type("a", "x" * 70))
    async with anyio.create_task_group() as tg:
        tg.start_soon(send_channel.send, of_type("b", "y" * 40))
        await wait_all_tasks_blocked()
        await send_channel.send(of_type("a", "x"))
    assert take_all(receive_channel) == ["x", "y" * 40]


async def test_conflating_among_waiting_sends(open_pair: OpenPair) -> None:
    """Of several waiting sends with one key the latest is received, counted once and by its own bytes."""
    send_channel, receive_channel = open_pair(2, conflate=by_type)
    async with anyio.create_task_group() as tg:
        for n in range(6):
            tg.start_soon(send_channel.send, of_type("ab"[n] if n < 2 else "key", n))
            await wait_all_tasks_blocked()
        receive_channel.receive_nowait()
        receive_channel.receive_nowait()
        await wait_all_tasks_blocked()
        statistics = send_channel.statistics()
        assert (statistics.current_buffer_used, statistics.events_conflated) == (1, 3)
        assert statistics.current_buffer_bytes == len(ServerSentEvent("5", event="key").encode())
        assert take_all(receive_channel) == ["5"]


async def test_conflating_never_brings_an_old_value_back(open_pair: OpenPair) -> None:
    """A send doesn't overtake a waiting one that has the same key, whose older value would then replace its own."""
    send_channel, receive_channel = open_pair(conflate=by_type, max_buffer_bytes=60)
    send_channel.send_nowait(of_type("a", "older"))
    send_channel.send_nowait(of_type("b", "."))
    async with anyio.create_task_group() as tg:
        tg.start_soon(send_channel.send, of_type("a", "old" * 10))
        await wait_all_tasks_blocked()
        tg.start_soon(send_channel.send, of_type("a", "new"))
        await wait_all_tasks_blocked()
        send_channel.send_nowait(of_type("b", "other keys may"))
        received = []
        while send_channel.statistics().current_buffer_used:
            received += take_all(receive_channel)
            await wait_all_tasks_blocked()
    assert received[-1] == "new"


async def test_conflate_that_raises(open_pair: OpenPair) -> None:
    """An exception of the key function is raised by ``send``, and the event is not sent."""

    def conflate(event: ServerSentEvent) -> str:
        raise LookupError(event.data)

    send_channel, _ = open_pair(conflate=conflate)
    with pytest.raises(LookupError):
        await send_channel.send("event")
    with pytest.raises(LookupError):
        send_channel.send_nowait("event")
    assert send_channel.statistics().current_buffer_used == 0


# --- line ends


async def test_line_end_counts_for_all_that_is_in_the_channel(open_pair: OpenPair) -> None:
    """When a response uses another line end, the bytes of buffered and waiting events are counted with it."""
    send_channel, receive_channel = open_pair(2)
    state = send_channel._state
    send_channel.send_nowait("one")
    send_channel.send_nowait({"event": "two", "data": "2"})
    async with anyio.create_task_group() as tg:
        tg.start_soon(send_channel.send, "three")
        await wait_all_tasks_blocked()
        state._use_sep("\r\n")
        assert send_channel.statistics().current_buffer_bytes == len("data: one") + 4 + len("event: twodata: 2") + 6
        receive_channel.receive_nowait()
    assert send_channel.statistics().current_buffer_used == 2
    assert len(take_all(receive_channel)) == 2
    assert send_channel.statistics().current_buffer_bytes == 0
    send_channel.send_nowait("four")
    batch = state.take_batch()
    assert batch is not None
    assert batch.body == b"data: four\r\n\r\n"


async def test_line_end_of_conflated_events(open_pair: OpenPair) -> None:
    """The bytes of a conflating channel are counted with another line end too."""
    send_channel, receive_channel = open_pair(conflate=by_type)
    send_channel.send_nowait(of_type("a", 1))
    state_of(send_channel)._use_sep("\r\n")
    assert send_channel.statistics().current_buffer_bytes == len("event: adata: 1") + 6
    assert len(take_all(receive_channel)) == 1
    assert send_channel.statistics().current_buffer_bytes == 0


# --- ends that were not closed


async def test_forgotten_send_channel_is_closed() -> None:
    """A send channel that is garbage-collected unclosed warns, and the receiver still reaches the end."""
    send_channel, receive_channel = open_event_channel()
    with receive_channel:
        await send_channel.send("last")
        assert (await receive_channel.receive()).data == "last"
        receiving = Receiving(receive_channel)
        async with anyio.create_task_group() as tg:
            tg.start_soon(receiving.run)
            await wait_all_tasks_blocked()
            with pytest.warns(ResourceWarning, match="unclosed EventSendChannel"):
                del send_channel
        assert receiving.outcome == "EndOfStream"


async def test_forgotten_receive_channel_is_closed() -> None:
    """A receive channel that is garbage-collected unclosed warns, and a waiting sender gets an error."""
    send_channel, receive_channel = open_event_channel(1)
    with send_channel:
        send_channel.send_nowait("first")
        sending = Sending(send_channel, "second")
        async with anyio.create_task_group() as tg:
            tg.start_soon(sending.run)
            await wait_all_tasks_blocked()
            with pytest.warns(ResourceWarning, match="unclosed EventReceiveChannel"):
                del receive_channel
        assert sending.outcome == "BrokenChannelError"


async def test_end_forgotten_before_anybody_waited() -> None:
    """The same holds for an end that is collected before any task of the event loop used the channel."""
    send_channel, receive_channel = open_event_channel()
    with receive_channel:
        with pytest.warns(ResourceWarning):
            del send_channel
        with pytest.raises(EndOfStream):
            await receive_channel.receive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_forgotten_end_is_closed_where_warnings_are_errors() -> None:
    """An end that is collected unclosed is closed even if the warning is turned into an error."""
    send_channel, receive_channel = open_event_channel()
    with receive_channel:
        del send_channel  # pytest's own filter makes the warning an error, which __del__ can't raise
        assert receive_channel.statistics().open_send_channels == 0


async def test_forgetting_both_ends_warns_once() -> None:
    """A channel that is collected as a whole warns once, because no task is left to wait."""
    pair = open_event_channel()
    with pytest.warns(ResourceWarning) as warned:
        del pair
    assert len(warned) == 1


async def test_nobody_to_wait_no_warning() -> None:
    """An end may be dropped unclosed if its other side is closed, because no task waits for it."""
    send_channel, receive_channel = open_event_channel()
    receive_channel.close()
    del send_channel
    send_channel, receive_channel = open_event_channel()
    send_channel.close()
    del receive_channel


@pytest.mark.usefixtures("real_clock")
async def test_end_collected_in_a_thread() -> None:
    """The collector may run in any thread; the receiver is woken in its own event loop."""
    send_channel, receive_channel = open_event_channel()
    ends = [send_channel]
    del send_channel
    with receive_channel:
        receiving = Receiving(receive_channel)
        async with anyio.create_task_group() as tg:
            tg.start_soon(receiving.run)
            await anyio.wait_all_tasks_blocked()
            with pytest.warns(ResourceWarning):
                await anyio.to_thread.run_sync(ends.clear)
        assert receiving.outcome == "EndOfStream"


async def test_nobody_waits_for_a_cancelled_send(open_pair: OpenPair) -> None:
    """A channel whose only waiting send was cancelled is at its end as soon as it has no sender."""
    send_channel, receive_channel = open_pair(0)
    state = receive_channel._state
    sending = Sending(send_channel, "event")
    async with anyio.create_task_group() as tg:
        tg.start_soon(sending.run)
        await wait_all_tasks_blocked()
        assert not state.at_end()
        sending.scope.cancel()
        state.refuse_sends()
        assert state.at_end()


async def test_repr_shows_whether_an_end_is_open_and_what_is_buffered(open_pair: OpenPair) -> None:
    """The repr of an end shows its class, and how full the channel is or that the end is closed."""
    send_channel, receive_channel = open_pair(8)
    await send_channel.send("a")
    assert repr(receive_channel) == "<EventReceiveChannel: 1 of 8 events buffered>"
    send_channel.close()
    assert repr(send_channel) == "<EventSendChannel: closed>"
    assert repr(receive_channel) == "<EventReceiveChannel: 1 of 8 events buffered>"
