"""open_event_channel(): what its two ends promise, in the order of the docstrings."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, WouldBlock

from sse_trio import EventReceiveChannel, EventSendChannel, ServerSentEvent, open_event_channel
from sse_trio import _channel_state as channel_state
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
    monkeypatch.setattr(channel_state, "SLICE_SECONDS", 3600.0)


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


# --- limits


@pytest.mark.parametrize("size", [0, 1, 2, 64])
async def test_no_more_events_than_the_limit(open_pair: OpenPair, size: int) -> None:
    """The channel never holds more than ``max_buffer_size`` events, whichever way they were sent."""
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
    """With ``max_buffer_size=0`` a second send waits, though the first met a waiting receiver."""
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


# --- order


async def test_blocked_senders_go_first_come_first_served(open_pair: OpenPair) -> None:
    """Sends that wait are accepted in the order in which they began to wait."""
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
    """A large event that waits for room is not overtaken by small ones, though there is room for those."""
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


class Sending:
    """A send in a task and a cancel scope of its own, and how it ended."""

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


Step = Callable[[EventReceiveChannel, EventSendChannel], object]

MAKE_ROOM: dict[str, Step] = {
    "receive_nowait": lambda receive_channel, _: receive_channel.receive_nowait(),
    "take_batch": lambda receive_channel, _: receive_channel._state.take_batch(),
    "close the receiver": lambda receive_channel, _: receive_channel.close(),
    "close the sender": lambda _, send_channel: send_channel.close(),
    "refuse": lambda receive_channel, _: receive_channel._state.refuse_sends(),
}


@pytest.mark.parametrize("order", ["cancel first", "cancel last"])
@pytest.mark.parametrize("step", MAKE_ROOM)
@pytest.mark.parametrize("size", [0, 1])
async def test_cancelled_send_is_accepted_or_raises(open_pair: OpenPair, step: str, order: str, size: int) -> None:
    """Cancelled in the same moment in which it is decided, a send returns and its event is received, or neither."""
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
            received += result.decode().split() if isinstance(result, bytes) else []
    if not receive_channel._closed:
        received += take_all(receive_channel)
    state = send_channel._state
    if order == "cancel first":
        assert sending.outcome == "cancelled"
    assert (sending.outcome == "sent") == ("second" in received)
    assert (state.resuming_sends, len(state.waiting_sends)) == (0, 0)


async def test_send_passes_a_cancelled_one(open_pair: OpenPair) -> None:
    """A send that was cancelled, and has not run since, keeps no other from the room that there is."""
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
    """A send that waited behind a larger one goes on when that is cancelled, if there is room for it."""
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


class Receiving:
    """A receive in a task and a cancel scope of its own, and what it gave."""

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


@pytest.mark.parametrize("size", [0, 5])
@pytest.mark.parametrize("order", ["leave first", "leave last"])
@pytest.mark.parametrize("leave", ["cancel", "close"])
async def test_receiver_that_leaves_keeps_no_event(open_pair: OpenPair, leave: str, order: str, size: int) -> None:
    """If a waiting receiver is cancelled or closed in the moment an event comes, it or another one receives it."""
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
    """A receiver that was cancelled or closed, and has not run since, is nobody to hand an event to."""
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
    """Events that come while none of the called receivers has run wake one receiver each."""
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
    """An event takes the place of the one with its key; the key ``None`` is nobody's; each is counted."""
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
    """In a full buffer an event still takes the place of another; one with a new key waits."""
    send_channel, receive_channel = open_pair(1, conflate=by_type)
    await send_channel.send(of_type("a", 1))
    await send_channel.send(of_type("a", 2))
    with pytest.raises(WouldBlock):
        send_channel.send_nowait(of_type("b", 1))
    assert take_all(receive_channel) == ["2"]


async def test_conflating_keeps_the_limit_of_bytes(open_pair: OpenPair) -> None:
    """A larger event replaces a smaller one only within ``max_buffer_bytes``, or where it is alone."""
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
    """An error of the key function is raised by ``send``, and the event was not sent."""

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
    """When a response uses another line end, bytes of buffered and of waiting events are counted with it."""
    send_channel, receive_channel = open_pair(2)
    state = send_channel._state
    send_channel.send_nowait("one")
    send_channel.send_nowait({"event": "two", "data": "2"})
    async with anyio.create_task_group() as tg:
        tg.start_soon(send_channel.send, "three")
        await wait_all_tasks_blocked()
        state.use_sep("\r\n")
        assert send_channel.statistics().current_buffer_bytes == len("data: one") + 4 + len("event: twodata: 2") + 6
        receive_channel.receive_nowait()
    assert send_channel.statistics().current_buffer_used == 2
    assert len(take_all(receive_channel)) == 2
    assert send_channel.statistics().current_buffer_bytes == 0
    send_channel.send_nowait("four")
    assert state.take_batch() == b"data: four\r\n\r\n"


async def test_line_end_of_conflated_events(open_pair: OpenPair) -> None:
    """The bytes of a conflating channel are counted with another line end too."""
    send_channel, receive_channel = open_pair(conflate=by_type)
    send_channel.send_nowait(of_type("a", 1))
    send_channel._state.use_sep("\r\n")
    assert send_channel.statistics().current_buffer_bytes == len("event: adata: 1") + 6
    assert len(take_all(receive_channel)) == 1
    assert send_channel.statistics().current_buffer_bytes == 0
