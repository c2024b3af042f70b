"""What is given in place of a source or a producer: each error says what to write for that."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pydantic
import pytest
import trio

from sse_trio import EventSendChannel, EventSourceResponse, open_event_channel, open_hub, open_runs
from sse_trio.testing import open_test_stream

pytestmark = pytest.mark.anyio


async def yields(send_channel: EventSendChannel) -> AsyncIterator[str]:
    """A producer that was written as a generator."""
    yield "event"


async def data_of(response: EventSourceResponse) -> list[str]:
    """The data of all events of a stream that ends without help."""
    async with open_test_stream(response) as stream:
        return [event.data async for event in stream]


@asynccontextmanager
async def items() -> AsyncIterator[list[str]]:
    """What has to be entered, as trio's as_safe_channel has."""
    yield ["event"]


class Price(pydantic.BaseModel):
    """One event's data."""

    euros: int


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (
            lambda: yields,
            r"EventSourceResponse\(yields\(\.\.\.\)\); or .*await send_channel\.send\(item\)` in",
        ),
        (items, r"enter it in a producer: `async with source as items:`"),
        (lambda: trio.as_safe_channel(yields)(None), r"enter it in a producer"),
        (lambda: trio.open_memory_channel[str](1)[0], r"give the receive end of the pair"),
        (asyncio.Queue[str], r"a producer that takes from it: `await send_channel\.send\(await queue\.get"),
        (lambda: None, r"got None; a function that makes the source must return it; in FastAPI, .*`yield`"),
        (lambda: Price(euros=1), r"the source is a Price, which is not a stream; `yield` it, to send it as one event"),
        (lambda: collections.Counter, r"the source must be a coroutine function"),
    ],
)
async def test_each_has_its_advice(make: Any, advice: str) -> None:
    """What users give in place of a source is an error that says what to write for just that."""
    with pytest.raises(TypeError, match=advice):
        EventSourceResponse(make())


async def test_a_response_is_no_source() -> None:
    """A response in place of its source is refused when the second one is made: also that of a run."""
    async with open_hub() as hub, open_runs(hub) as runs:
        for response in (EventSourceResponse(add, 1), runs.response("key")):
            with pytest.raises(TypeError, match="the source is a response; return it as it is"):
                EventSourceResponse(response)  # type: ignore[arg-type]


async def test_a_hub_is_no_source() -> None:
    """A hub, or its method, in place of a subscription is refused with the call to write."""
    async with open_hub() as hub:
        for source in (hub, hub.subscribe):
            with pytest.raises(TypeError, match=r"write EventSourceResponse\(hub\.subscribe\(topic\)\)"):
                EventSourceResponse(source)  # type: ignore[arg-type]


def test_the_wrong_end_of_a_pair() -> None:
    """The send end of a pair of channels is refused, and the error names the other end."""
    send_channel, receive_channel = open_event_channel()
    with send_channel, receive_channel, pytest.raises(TypeError, match="give the receive end of the pair"):
        EventSourceResponse(send_channel)  # type: ignore[call-overload]


@pytest.mark.parametrize("make", [lambda: yields, lambda: yields(None), lambda: partial(yields, None)])  # type: ignore[arg-type]
async def test_a_generator_is_no_producer(make: Any) -> None:
    """A generator in place of a producer is told to send what it yields, and never to write the `async def` it has."""
    advice = r"without `yield`; got .*; write `await send_channel\.send\(item\)` in place of `yield item`$"
    with pytest.raises(TypeError, match=advice):
        EventSourceResponse(add, 1, producers=[make()])
    async with open_hub() as hub, open_runs(hub) as runs:
        with pytest.raises(TypeError, match=advice):
            await runs.start("key", make())


def test_a_generator_is_no_callback() -> None:
    """A callback with a `yield` is refused for its `yield`."""
    with pytest.raises(TypeError, match="on_close must be a function that is awaited, without `yield`"):
        EventSourceResponse(yields(None), on_close=yields)  # type: ignore[arg-type]


async def test_a_run_s_producer_takes_the_send_channel() -> None:
    """A run's producer without a parameter for the send channel is refused like a response's."""

    async def answer() -> None:
        """Take nothing."""

    async with open_hub() as hub, open_runs(hub) as runs:
        with pytest.raises(TypeError, match=r"write `async def answer\(send_channel\)`"):
            await runs.start("key", answer)


async def add(send_channel: EventSendChannel, first: int, *, second: int = 0) -> None:
    """A producer with arguments."""
    await send_channel.send(first + second)


@pytest.mark.parametrize("args", [(), (1, 2), (1, 2, 3)])
async def test_a_producer_called_with_other_arguments(args: tuple[int, ...]) -> None:
    """A producer whose arguments don't fit raises Python's error, with a note that says how it is called."""
    with pytest.raises(TypeError) as info:
        await data_of(EventSourceResponse(add, *args))
    (note,) = info.value.__dict__["__notes__"]
    assert "EventSourceResponse(produce, *args)" in note
    assert "functools.partial" in note


async def test_an_error_in_a_producer_has_no_note() -> None:
    """A TypeError of the producer's own code stays as it is, also one of a call in it."""

    async def produce(send_channel: EventSendChannel) -> None:
        await add(send_channel)  # type: ignore[call-arg]

    with pytest.raises(TypeError) as info:
        await data_of(EventSourceResponse(produce))
    assert not getattr(info.value, "__notes__", [])


async def test_a_run_has_the_notes_too(caplog: pytest.LogCaptureFixture) -> None:
    """The log of a run that failed has the notes on common mistakes that a stream's error has."""

    async def other_library(send_channel: EventSendChannel) -> None:
        await send_channel.send(data="x", event="tick")  # type: ignore[call-arg]

    async with open_hub() as hub, open_runs(hub) as runs:
        for key, produce in (("arguments", add), ("event", other_library)):
            await runs.start(key, produce)
            async with open_test_stream(runs.response(key)) as stream:
                await stream.wait_closed()
    notes = [record.exc_info[1].__dict__["__notes__"] for record in caplog.records if record.exc_info]  # type: ignore[union-attr]
    assert [note[0][:60] for note in notes] == [
        "sse_trio: a producer is called as produce(send_channel, *arg",
        "sse_trio: send() takes one event. Write await send_channel.s",
    ]


async def test_what_still_works() -> None:
    """A function that returns a coroutine is a producer, and its arguments can be given by keyword."""
    for source in (lambda channel: add(channel, 1), partial(add, first=1), partial(add, first=0, second=1)):
        assert await data_of(EventSourceResponse(source)) == ["1"]
