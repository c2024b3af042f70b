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


def take_all(receive_channel: EventReceiveChannel) -> list[str | None]:
    """Receive what is there now."""
    received = []
    try:
        while True:
            received.append(receive_channel.receive_nowait().data)
    except (WouldBlock, EndOfStream):
        return received


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


# --- conflation


async def test_conflating_keeps_every_key(open_pair: OpenPair) -> None:
    """Events with different keys are all received, however fast they are sent."""
    send_channel, receive_channel = open_pair(conflate=by_type)
    for n in range(10):
        await send_channel.send(of_type(str(n), n))
    assert take_all(receive_channel) == [str(n) for n in range(10)]
