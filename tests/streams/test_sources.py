"""What a response can be made from, what it refuses, and how an async iterable is closed."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from sse_trio import (
    CloseReason,
    EventSendChannel,
    EventSourceResponse,
    ServerSentEvent,
    StreamGroup,
    open_event_channel,
    open_hub,
)
from sse_trio.testing import open_test_stream

pytestmark = pytest.mark.anyio


async def produce(send_channel: EventSendChannel, *args: object) -> None:
    """Send what it was given."""
    for arg in args:
        await send_channel.send(str(arg))


async def generate(*events: Any) -> AsyncGenerator[Any, None]:
    """Yield what it was given."""
    for event in events:
        yield event


def generate_sync() -> Iterator[str]:
    """Yield, without ``async``."""
    yield "event"


async def data_of(response: EventSourceResponse) -> list[str]:
    """The data of all events of a stream that ends without help."""
    async with open_test_stream(response) as stream:
        return [event.data async for event in stream]


# --- what is refused


@pytest.mark.parametrize(
    ("source", "args", "advice"),
    [
        (generate, (), r"call it: EventSourceResponse\(generate\(...\)\)"),
        (functools.partial(generate, "event"), (), r"call it"),
        (generate_sync, (), r"call it"),
        (functools.partial(functools.partial(generate_sync)), (), r"call it"),
        (["event"], (), r"the source is a list, .*EventSourceResponse\(iter\(items\)\)"),
        ("event", (), "the source is a str, which is not a stream"),
        ({"data": 1}, (), "the source is a dict, which is not a stream"),
        (None, (), "must be a coroutine function, a receive channel or an iterable; got None"),
        (5, (), "must be a coroutine function"),
        (generate(), ("arg",), "are for a coroutine function, but the source is a async_generator"),
        (generate_sync(), ("arg",), "are for a coroutine function, but the source is a generator"),
    ],
)
def test_what_is_no_source(source: Any, args: tuple[object, ...], advice: str) -> None:
    """An invalid source raises when the response is made, with what to write instead."""
    with pytest.raises(TypeError, match=advice):
        EventSourceResponse(source, *args)


def test_a_producer_takes_the_send_channel() -> None:
    """A producer without a parameter for the send channel is an error that shows the line to write."""

    async def ticks() -> None:
        pass

    async def any_number(*args: object) -> None:
        pass

    with pytest.raises(TypeError, match=r"a parameter for the send channel; write `async def ticks\(send_channel\)`"):
        EventSourceResponse(ticks)  # type: ignore[arg-type]
    EventSourceResponse(any_number, "ACME")


def test_coroutine_is_no_source() -> None:
    """A coroutine is refused and closed, so Python does not warn that it "was never awaited"."""
    source: Any = produce(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"the source is a coroutine; await it, .*EventSourceResponse\(produce, arg\)"):
        EventSourceResponse(source)


def test_channel_takes_no_arguments() -> None:
    """A channel as a source can't be given arguments."""
    send_channel, receive_channel = open_event_channel()
    with send_channel, receive_channel, pytest.raises(TypeError, match="but the source is a EventReceiveChannel; got"):
        EventSourceResponse(receive_channel, "arg")  # type: ignore[call-arg]


@pytest.mark.parametrize("producer", [None, "name", produce(None), generate()])  # type: ignore[arg-type]
def test_what_is_no_producer(producer: Any) -> None:
    """A producer must be callable; a coroutine among the producers is refused and closed."""
    with pytest.raises(TypeError, match=r"producers=\[partial\(produce, send_channel\)\]"):
        EventSourceResponse(generate(), producers=[producer])


def test_one_source() -> None:
    """A response without a source, or with one given twice, is refused."""
    with pytest.raises(TypeError, match="needs one source, by position or as content=; got none"):
        EventSourceResponse()
    with pytest.raises(TypeError, match="got both"):
        EventSourceResponse(generate(), content=generate())


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ({"overflow": "drop"}, "overflow must be one of"),
        ({"overflow": "wait", "conflate": 5}, "conflate must be a function of an event"),
        ({"errors": "ignore"}, "errors must be 'strict' or 'replace'"),
    ],
)
def test_options_of_the_channel_are_checked(option: dict[str, Any], advice: str) -> None:
    """An invalid option of the channel is an error when the response is made."""
    with pytest.raises((TypeError, ValueError), match=advice):
        EventSourceResponse(produce, **option)


@pytest.mark.parametrize("option", [{"overflow": "drop_oldest"}, {"conflate": str}, {"errors": "replace"}])
async def test_options_of_the_channel_need_a_channel_of_the_response(option: dict[str, Any]) -> None:
    """A source that has a queue of its own has its own options; the error says where to give them."""
    (name,) = option
    send_channel, receive_channel = open_event_channel()
    with send_channel, receive_channel, pytest.raises(TypeError, match=rf"{name} must .*open_event_channel\({name}="):
        EventSourceResponse(receive_channel, **option)
    async with open_hub() as hub:
        with pytest.raises(TypeError, match=rf"{name} must be left out with a source of type Subscription"):
            EventSourceResponse(hub.subscribe("topic"), **option)


def test_a_size_is_no_option_of_a_source_with_a_queue() -> None:
    """A source that has a queue of its own may be given sizes, as code does that gives every response the same."""
    send_channel, receive_channel = open_event_channel()
    with send_channel, receive_channel:
        EventSourceResponse(receive_channel, max_buffer_size=7, max_buffer_bytes=70_000)


# --- what is taken


async def test_content() -> None:
    """The source may be given as ``content=``, as frameworks do."""
    assert await data_of(EventSourceResponse(content=generate("one", "two"))) == ["one", "two"]


async def test_overflow_and_conflate() -> None:
    """A response can drop what a slow client has no time for, and let a newer value replace an older one."""

    async def flood(send_channel: EventSendChannel) -> None:
        await send_channel.send("first")
        await anyio.sleep(1)
        for n in range(10):
            await send_channel.send({"data": n, "event": "even" if n % 2 == 0 else "odd"})
        await anyio.sleep(1)

    async def kept(**options: Any) -> list[str]:
        async with open_test_stream(EventSourceResponse(flood, **options)) as stream:
            await stream.receive()
            stream.stall()
            await anyio.sleep(1.5)
            stream.resume()
            return [event.data async for event in stream]

    assert (await kept(max_buffer_size=2, overflow="drop_oldest"))[-2:] == ["8", "9"]
    # What is between depends on how many the writer took before the client stalled, by the real clock (pacer.py).
    conflated = [int(data) for data in await kept(conflate=lambda event: event.event)]
    assert [n for n in conflated if n % 2 == 0][-1] == 8
    assert [n for n in conflated if n % 2 == 1][-1] == 9
    assert len(conflated) < 10


async def test_producer_with_arguments() -> None:
    """A producer gets its channel first, then the arguments."""
    assert await data_of(EventSourceResponse(produce, 1, "two")) == ["1", "two"]


async def test_producers_of_other_kinds() -> None:
    """A producer may be a partial, a method, or a callable object."""

    class Producer:
        async def __call__(self, send_channel: EventSendChannel) -> None:
            await send_channel.send("called")

        async def method(self, send_channel: EventSendChannel, text: str) -> None:
            await send_channel.send(text)

    assert await data_of(EventSourceResponse(functools.partial(produce))) == []
    assert await data_of(EventSourceResponse(Producer())) == ["called"]
    assert await data_of(EventSourceResponse(Producer().method, "text")) == ["text"]


async def test_async_iterable_of_all_that_can_be_sent() -> None:
    """The items of an async iterable are sent like arguments of send()."""
    events = ["text", 7, {"data": 1}, ServerSentEvent("event")]
    assert await data_of(EventSourceResponse(generate(*events))) == ["text", "7", "1", "event"]


async def test_what_cant_be_sent_fails_in_the_source() -> None:
    """If an async iterable yields something that can't be sent, the stream fails, and the iterable is closed."""
    closed = []

    async def generate_bytes() -> AsyncGenerator[Any, None]:
        try:
            yield b"bytes"
        finally:
            closed.append(True)

    with pytest.raises(TypeError, match="got bytes"):
        await data_of(EventSourceResponse(generate_bytes()))
    assert closed


async def test_own_channel_without_producers() -> None:
    """A channel is written until all its send ends are closed, including the clones."""
    send_channel, receive_channel = open_event_channel()

    async def publish() -> None:
        with send_channel:
            for n in range(3):
                await anyio.sleep(1)
                await send_channel.send(n)

    async with anyio.create_task_group() as tg:
        tg.start_soon(publish)
        assert await data_of(EventSourceResponse(receive_channel)) == ["0", "1", "2"]


async def test_producers_may_be_any_iterable() -> None:
    """``producers`` may be any iterable, even an iterator that can be read once."""
    send_channel, receive_channel = open_event_channel()

    async def produce_one(send_channel: EventSendChannel) -> None:
        with send_channel:
            await send_channel.send("event")

    channels = [send_channel, send_channel.clone()]
    producers: Any = (functools.partial(produce_one, each) for each in channels)
    assert await data_of(EventSourceResponse(receive_channel, producers=producers)) == ["event"] * 2


async def test_producers_beside_a_function() -> None:
    """Producers run beside a function, too; the stream completes when all have returned."""
    steps = []

    async def beside() -> None:
        await anyio.sleep(5)
        steps.append("beside")

    assert await data_of(EventSourceResponse(produce, "event", producers=[beside])) == ["event"]
    assert steps == ["beside"]


async def test_streams_of_anyio() -> None:
    """An anyio object stream is a source, and is closed in the end."""
    send_stream, receive_stream = anyio.create_memory_object_stream[str](5)
    with send_stream:
        for text in ("one", "two"):
            send_stream.send_nowait(text)
    assert await data_of(EventSourceResponse(receive_stream)) == ["one", "two"]
    with pytest.raises(anyio.ClosedResourceError):
        receive_stream.receive_nowait()


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_channels_of_trio() -> None:
    """A trio memory channel is a source, and is closed in the end."""
    send_channel, receive_channel = trio.open_memory_channel[str](5)
    with send_channel:
        for text in ("one", "two"):
            send_channel.send_nowait(text)
    assert await data_of(EventSourceResponse(receive_channel)) == ["one", "two"]
    with pytest.raises(trio.ClosedResourceError):
        receive_channel.receive_nowait()


# --- how an async iterable is closed


class Closing:
    """Async iterables that note how they were closed."""

    def __init__(self) -> None:
        self.steps: list[object] = []

    async def generate(self, cleanup: float = 0) -> AsyncGenerator[str, None]:
        """A generator that takes its time to clean up."""
        try:
            for n in range(1000):
                yield str(n)
                await anyio.sleep(1)
        finally:
            self.steps.append("cleaning")
            await anyio.sleep(cleanup)
            self.steps.append(anyio.current_time())

    def __aiter__(self) -> AsyncIterator[str]:
        """An iterable that is not an iterator, like those of many client libraries."""
        return self.generate()


SOURCES: dict[str, Callable[[Closing], Any]] = {
    "a generator": Closing.generate,
    "an iterable whose iterator is one": lambda closing: closing,
}


@pytest.mark.parametrize("kind", SOURCES)
async def test_closed_when_the_stream_ends(kind: str) -> None:
    """However the stream ends, the iterable is closed in the task that iterates it, before the response is done."""
    closing = Closing()
    async with open_test_stream(EventSourceResponse(SOURCES[kind](closing))) as stream:
        for _ in range(3):
            await stream.receive()
        stream.disconnect()
        await stream.wait_closed()
        assert closing.steps[0] == "cleaning"
    assert stream.close_reason is CloseReason.DISCONNECTED


@pytest.mark.parametrize("kind", SOURCES)
async def test_closed_when_it_waits_in_send(kind: str) -> None:
    """It is also closed if the stream ends while it waits at its ``yield``; its cleanup may take its time."""
    closing = Closing()
    source = SOURCES[kind](closing)
    if kind == "a generator":
        source = closing.generate(cleanup=2)
    group = StreamGroup()
    async with open_test_stream(EventSourceResponse(source, max_buffer_size=1, group=group)) as stream:
        await stream.receive()
        stream.stall()
        await anyio.sleep(5)
        began = anyio.current_time()
        await group.kick()
        await stream.wait_closed()
    assert closing.steps == ["cleaning", began + (2 if kind == "a generator" else 0)]


async def test_closing_has_an_end() -> None:
    """A cleanup that takes more than five seconds is cancelled."""
    closing = Closing()
    group = StreamGroup()
    response = EventSourceResponse(closing.generate(cleanup=60), max_buffer_size=1, group=group)
    async with open_test_stream(response) as stream:
        await stream.receive()
        stream.stall()
        await anyio.sleep(5)
        stream.resume()
        began = anyio.current_time()
        await group.kick()
        await stream.wait_closed()
        assert anyio.current_time() - began == 5
    assert closing.steps == ["cleaning"]


async def test_both_are_closed() -> None:
    """If both the iterable and its iterator can be closed, both are, even if the first one raises."""
    steps = []

    class Source(Closing):
        async def generate(self, cleanup: float = 0) -> AsyncGenerator[str, None]:
            try:
                yield "event"
                yield "event"
            finally:
                steps.append("iterator closed")
                raise LookupError

        async def aclose(self) -> None:
            steps.append("source closed")

    with pytest.raises(LookupError):
        async with open_test_stream(EventSourceResponse(Source())) as stream:
            await stream.receive()
    assert steps == ["iterator closed", "source closed"]


async def test_iterator_that_cant_be_closed() -> None:
    """A source without aclose() is not closed."""

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> str:
            await anyio.sleep(1)
            return "event"

    async with open_test_stream(EventSourceResponse(Source())) as stream:
        await stream.receive()


async def test_closing_that_raises() -> None:
    """The response raises an exception of the iterable's ``aclose()``."""

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> str:
            raise StopAsyncIteration

        async def aclose(self) -> None:
            raise LookupError("closing")

    with pytest.raises(LookupError, match="closing"):
        await data_of(EventSourceResponse(Source()))


def chain_of(exc: BaseException | None) -> list[BaseException]:
    """What a traceback shows, the last error first."""
    chain: list[BaseException] = []
    while exc is not None:
        chain.append(exc)
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return chain


async def closing_fails(*, how: str) -> AsyncIterator[Any]:
    try:
        yield "event"
        yield object()
    finally:
        if how == "plainly":
            raise LookupError("closing")
        if how == "from None":
            raise LookupError("closing") from None
        try:
            raise KeyError("reason")
        except KeyError as exc:
            raise LookupError("closing") from exc


@pytest.mark.parametrize("how", ["plainly", "from None", "from another"])
@pytest.mark.parametrize("beside", [False, True])
async def test_closing_that_raises_after_an_error(how: str, beside: bool) -> None:
    """When an iterable and its ``aclose()`` both fail, both errors are in what is raised."""
    producers = [anyio.sleep_forever] * beside

    async def send(message: object) -> None:
        await anyio.lowlevel.checkpoint()

    with pytest.raises(LookupError, match="closing") as info:
        response = EventSourceResponse(closing_fails(how=how), producers=producers)
        await response({"type": "http", "method": "GET", "headers": []}, anyio.sleep_forever, send)
    chain = chain_of(info.value)
    assert [exc for exc in chain if isinstance(exc, TypeError) and "an event must be" in str(exc)]
    assert any(isinstance(exc, KeyError) for exc in chain) is (how == "from another")


async def test_closing_that_raises_the_same_error() -> None:
    """If ``aclose()`` raises the same error again, it is raised once and is not its own context."""

    class Source:
        error = LookupError("broken")

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> str:
            raise self.error

        async def aclose(self) -> None:
            raise self.error

    with pytest.raises(LookupError, match="broken") as info:
        await data_of(EventSourceResponse(Source()))
    assert info.value is Source.error
    assert len(chain_of(info.value)) == 1


# --- text that is not ours


HALVES = ["plain", "\ud83d", "\ud83d\ude00", "é\ude00x", {"data": "\ud83d", "event": "\ud83d"}]


@pytest.mark.parametrize("kind", ["producer", "iterable", "channel"])
async def test_lone_surrogates_are_replaced(kind: str) -> None:
    """With errors="replace", text that UTF-8 can't encode ends no stream; halves that belong together are joined."""
    send_channel, receive_channel = open_event_channel(errors="replace")

    async def send(send_channel: EventSendChannel, *events: Any) -> None:
        for number, event in enumerate(events):
            if number % 2:
                await send_channel.send(event)
            else:
                send_channel.send_nowait(event)

    async def feed() -> None:
        with send_channel:
            await send(send_channel, *HALVES)

    response = {
        "producer": lambda: EventSourceResponse(send, *HALVES, errors="replace"),
        "iterable": lambda: EventSourceResponse(generate(*HALVES), errors="replace"),
        "channel": lambda: EventSourceResponse(receive_channel, producers=[feed]),
    }[kind]()
    assert await data_of(response) == ["plain", "\ufffd", "\U0001f600", "é\ufffdx", "\ufffd"]
    send_channel.close()
    receive_channel.close()


async def test_lone_surrogates_are_an_error() -> None:
    """By default nothing is replaced, and the error says how to ask for it."""
    with pytest.raises(ValueError, match="lone surrogate.*errors='replace'"):
        await data_of(EventSourceResponse(generate("\ud83d")))


def test_errors_that_make_no_sense() -> None:
    """``errors`` must be "strict" or "replace", and your own channel has its own setting."""
    with pytest.raises(ValueError, match="errors must be 'strict' or 'replace'; got 'ignore'"):
        EventSourceResponse(generate(), errors="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="errors must be .*; got 'ignore'"):
        open_event_channel(errors="ignore")  # type: ignore[arg-type]
    send_channel, receive_channel = open_event_channel()
    with send_channel, receive_channel, pytest.raises(TypeError, match="errors must be .*; got 'replace'"):
        EventSourceResponse(receive_channel, errors="replace")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_closed_when_it_never_ran(method: str) -> None:
    """A source is closed even if it never runs: the stream ends before it starts, or the request is a HEAD."""
    send_stream, receive_stream = anyio.create_memory_object_stream[str]()
    response = EventSourceResponse(receive_stream)
    with send_stream:
        async with open_test_stream(response, method=method, wait_head=False) as stream:
            if method == "GET":
                stream.request_shutdown()
            await stream.wait_closed()
        assert stream.status_code == 200
        assert stream.close_reason is (CloseReason.SHUTDOWN if method == "GET" else None)
        with pytest.raises(anyio.BrokenResourceError):
            await send_stream.send("event")
