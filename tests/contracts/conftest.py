# The contract matrix: each kind of source against each way to end, on each event loop.
#
# Rule 1: every kind of source performs the same script, whose language is explained at the top of test_matrix.py.
# Rule 2: all times are in units: a second of virtual time; on uvloop, whose clock is real, UVLOOP_UNIT seconds.
# Rule 3: each run asserts what holds for every ending: both channel ends closed, no task left, one close reason, and
#         all of this before the response returns. The test kit asserts that two sends were never under way at once.

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import pytest
import trio
from starlette.types import Message, Receive, Scope, Send

from sse_trio import EventSendChannel, EventSourceResponse, StreamGroup, open_event_channel
from sse_trio._servers.direct_write import DirectWriter
from sse_trio.testing import TestStream, open_test_stream, virtual_backend, wait_all_tasks_blocked
from sse_trio.testing._exchange import Exchange

UVLOOP_UNIT = 0.02
BACKENDS = ("asyncio", "trio", "asyncio+uvloop")
PATIENCE = 500  # units; no ending takes longer
TIMES = frozenset({"ping", "send_timeout", "commit_within", "grace", "max_lifetime"})
RESOURCE_ERRORS = (anyio.BrokenResourceError, anyio.ClosedResourceError, trio.BrokenResourceError)

Step = Any
SendEvent = Callable[[str], Awaitable[object]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every source on every loop, by each way in which an event can be written; uvloop has the first two.

    A trio memory channel runs on trio only; a generator is left out where another task sends, too. On trio no `send` is
    stepped. From Python 3.12 on, "sent" is an eager task on asyncio.
    """
    sources = [s for s in SOURCES if s != "generator" or "publisher" not in metafunc.fixturenames]
    backends = [b for b in BACKENDS if not b.endswith("uvloop") or "virtual_time" not in metafunc.fixturenames]
    cells = [(b, s) for b in backends for s in sources if b == "trio" or s != "trio_channel"]
    without = {"sent": "nothing", "stepped": "trio", "direct": "uvloop"}
    ways = [(b, s, way) for way, loop in without.items() for b, s in cells if loop not in b]
    ids = ["-".join(way) for way in ways]
    metafunc.parametrize(("anyio_backend", "source", "way"), ways, indirect=True, ids=ids)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Virtual time, and uvloop with a real clock."""
    name: str = request.param
    return ("asyncio", {"use_uvloop": True}) if name.endswith("uvloop") else virtual_backend(name)


@pytest.fixture
def virtual_time() -> None:
    """For endings with waits that the library counts in seconds; a real clock would need those seconds."""


@pytest.fixture
def source(request: pytest.FixtureRequest) -> type[Source]:
    """The kind of source."""
    return SOURCES[request.param]


@pytest.fixture
def way(request: pytest.FixtureRequest) -> str:
    """How an idle stream's event is written: "sent" with the server's `send`, that "stepped" by hand, or "direct"."""
    return str(request.param)


@pytest.fixture
def cell(anyio_backend: tuple[str, dict[str, Any]], source: type[Source], way: str) -> Cell:
    """A cell of the matrix, to be run once."""
    return Cell(source, UVLOOP_UNIT if "use_uvloop" in anyio_backend[1] else 1.0, way)


class ExchangeWriter(DirectWriter):
    """Direct writes to the server of the test kit: a chunk is a message that was not sent."""

    def __init__(self, exchange: Exchange, send: Send) -> None:
        super().__init__(send)
        self._exchange = exchange

    @property
    def is_in_chunks(self) -> bool:
        return bool(self._exchange.messages)

    def write_nowait(self, chunk: bytes, /) -> int:
        exchange = self._exchange
        assert not exchange.is_sending, "at most one send is in flight (C4)"
        if exchange._is_blocked() or exchange._is_over() or exchange._send_exception is not None:
            return 0
        size, _, rest = chunk.partition(b"\r\n")
        assert rest[int(size, 16) :] == b"\r\n"
        exchange._take({"type": "http.response.body", "body": rest[:-2], "more_body": True})
        return len(chunk)


@pytest.fixture
def publisher() -> Callable[[Cell, float], Awaitable[None]]:
    """Somebody outside of the response who sends until that is refused, with so many units between two events."""

    async def publish(cell: Cell, interval: float) -> None:
        send = cell.source.publish()
        with anyio.fail_after(60 * cell.unit), pytest.raises(RESOURCE_ERRORS):
            while True:
                await send("p")
                await cell.sleep(interval)
        cell.log.append("publisher refused")

    return publish


# --- the sources


@dataclass
class Source:
    """What a response is made of. Each kind does the same script."""

    script: Sequence[Step]
    unit: float
    log: list[str]
    steps: Iterator[Step] = field(init=False)
    turn: anyio.Lock = field(default_factory=anyio.Lock)

    def __post_init__(self) -> None:
        self.steps = iter(self.script)

    def respond(self, **options: Any) -> EventSourceResponse:
        raise NotImplementedError

    def publish(self) -> SendEvent:
        """What somebody outside of the response sends events with, until it raises."""
        raise NotImplementedError

    def open_ends(self) -> tuple[int, int]:
        """How many send and receive ends are open."""
        raise NotImplementedError

    async def perform(self, name: str, send: SendEvent, closing: Callable[[], Awaitable[object]]) -> None:
        """Do the script, step by step, in turns if there are several of us; clean up as C3 says, and log it."""
        try:
            while True:
                async with self.turn:
                    step = next(self.steps, None)
                    if step is None:
                        return
                    await self.do(step, send, closing)
        finally:
            await self.clean_up(name)

    async def do(self, step: Step, send: SendEvent, closing: Callable[[], Awaitable[object]]) -> None:
        if isinstance(step, str):
            await send(step)
        elif step == ["closing"]:
            await closing()
        else:
            await self.wait_or_raise(step)

    async def wait_or_raise(self, step: Step) -> None:
        if isinstance(step, Exception):
            raise step
        await (anyio.sleep_forever() if step is ... else anyio.sleep(step * self.unit))

    async def clean_up(self, name: str) -> None:
        with anyio.move_on_after(5, shield=True):
            await anyio.sleep(self.unit)
            self.log.append(f"{name} cleaned up")


class Producer(Source):
    """A producer coroutine function, with a channel that is opened for it."""

    channel: EventSendChannel

    def respond(self, **options: Any) -> EventSourceResponse:
        return EventSourceResponse(self.produce, **options)

    async def produce(self, send_channel: EventSendChannel) -> None:
        self.channel = send_channel
        await self.perform("a", send_channel.send, send_channel.wait_closing)

    def publish(self) -> SendEvent:
        return _own_ends(self.channel.clone())

    def open_ends(self) -> tuple[int, int]:
        statistics = self.channel.statistics()
        return statistics.open_send_channels, statistics.open_receive_channels


class Pair(Source):
    """An explicit pair with two producers, which take turns."""

    channel: EventSendChannel

    def respond(self, *, max_buffer_size: float = 64, producers: Sequence[Any] = (), **options: Any) -> Any:
        self.channel, receive_channel = open_event_channel(max_buffer_size)
        both = [partial(self.produce, "a", self.channel), partial(self.produce, "b", self.channel.clone())]
        return EventSourceResponse(receive_channel, producers=[*both, *producers], **options)

    async def produce(self, name: str, send_channel: EventSendChannel) -> None:
        async with send_channel:
            await self.perform(name, send_channel.send, send_channel.wait_closing)

    publish = Producer.publish
    open_ends = Producer.open_ends


class AnyioStream(Source):
    """An anyio object stream, fed by a producer in the response's nursery."""

    def respond(self, *, producers: Sequence[Any] = (), **options: Any) -> EventSourceResponse:
        self.send_stream, receive_stream = anyio.create_memory_object_stream[str](0)
        return EventSourceResponse(receive_stream, producers=[self.produce, *producers], **options)

    async def produce(self) -> None:
        async with self.send_stream:
            await self.perform("a", self.send_stream.send, anyio.sleep_forever)

    def publish(self) -> SendEvent:
        return _own_ends(self.send_stream.clone())

    def open_ends(self) -> tuple[int, int]:
        statistics = self.send_stream.statistics()
        return statistics.open_send_streams, statistics.open_receive_streams


class TrioChannel(Source):
    """A trio memory channel, fed by a producer in the response's nursery."""

    def respond(self, *, producers: Sequence[Any] = (), **options: Any) -> EventSourceResponse:
        self.send_channel, receive_channel = trio.open_memory_channel[str](0)
        return EventSourceResponse(receive_channel, producers=[self.produce, *producers], **options)

    async def produce(self) -> None:
        async with self.send_channel:
            await self.perform("a", self.send_channel.send, trio.sleep_forever)

    def publish(self) -> SendEvent:
        return _own_ends(self.send_channel.clone())

    def open_ends(self) -> tuple[int, int]:
        statistics = self.send_channel.statistics()
        return statistics.open_send_channels, statistics.open_receive_channels


class Generator(Source):
    """An async generator."""

    def respond(self, **options: Any) -> EventSourceResponse:
        self.generator = self.generate()
        return EventSourceResponse(self.generator, **options)

    async def generate(self) -> AsyncGenerator[str, None]:
        try:
            for step in self.script:
                if isinstance(step, str):
                    yield step
                else:
                    await self.wait_or_raise(... if step == ["closing"] else step)
        finally:
            await self.clean_up("a")

    def open_ends(self) -> tuple[int, int]:
        return (0, 0) if self.generator.ag_frame is None else (1, 1)


SOURCES: dict[str, type[Source]] = {
    "producer": Producer,
    "pair": Pair,
    "anyio_stream": AnyioStream,
    "trio_channel": TrioChannel,
    "generator": Generator,
}


def _own_ends(channel: Any) -> SendEvent:
    async def send(event: str) -> None:
        try:
            await channel.send(event)
        except RESOURCE_ERRORS:
            channel.close()
            raise

    return send


# --- a run


@dataclass
class Cell:
    """One source and one ending, run once."""

    source_type: type[Source]
    unit: float
    way: str = "sent"
    log: list[str] = field(default_factory=list)
    group: StreamGroup = field(default_factory=lambda: StreamGroup(signals=False))
    go: anyio.Event = field(default_factory=anyio.Event)
    began: float = 0.0

    async def run(
        self,
        script: Sequence[Step],
        act: Callable[[Cell, TestStream], Awaitable[None]],
        *,
        bridge: bool = True,
        failures: Sequence[Exception] = (),
        **options: Any,
    ) -> None:
        """Serve the script to a client, do `act` to it meanwhile, and assert what holds for every ending."""
        self.source = self.source_type(script, self.unit, self.log)
        response = self.source.respond(
            **{name: value * self.unit if name in TIMES else value for name, value in options.items()},
            producers=[partial(self.fail, failure) for failure in failures],
            on_close=self.on_close,
            group=self.group,
        )
        tasks = _living_tasks()
        self.began = anyio.current_time()
        self.stream: TestStream | None = None
        try:
            with anyio.fail_after(PATIENCE * self.unit):
                async with open_test_stream(
                    partial(self.serve, response), wait_head=False, bridge=bridge
                ) as self.stream:
                    await act(self, self.stream)
                    await self.stream.wait_closed()
        finally:
            await self.settle()
            assert self.source.open_ends() == (0, 0), "both ends are closed (C8)"
            assert _living_tasks() == tasks, "no task is left (C1)"
            assert self.group.statistics().open_streams == 0

    async def serve(self, response: EventSourceResponse, scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["extensions"]["sse_trio"]["connection"]
        if self.way == "stepped":
            connection.is_own_send = lambda _: True
        if self.way == "direct" and connection.has_inbox:
            connection.direct_writer = ExchangeWriter(connection._exchange, send)
            send = connection.direct_writer.send
        try:
            await response(scope, receive, send)
        finally:
            self.log.append("returned")

    async def on_close(self, reason: Any) -> None:
        assert self.source.open_ends()[1] == 0, "nobody can send any more when on_close is called"
        self.log.append(f"on_close {reason.value}")

    async def fail(self, exc: Exception) -> None:
        await self.go.wait()
        raise exc

    async def sleep(self, units: float) -> None:
        await anyio.sleep(units * self.unit)

    async def settle(self) -> None:
        """Let everything happen that happens without time passing."""
        if self.unit == 1:
            await wait_all_tasks_blocked()
        else:
            await anyio.sleep(0.01)

    @property
    def elapsed(self) -> float:
        """Units since the run began."""
        return (anyio.current_time() - self.began) / self.unit


@pytest.fixture
def show() -> Callable[[Sequence[Message]], str]:
    """The ASGI messages as words: "head", each body's events joined by "+" ("-" for an empty one), "final"."""
    return lambda messages: " ".join(map(_word, messages))


def _word(message: Message) -> str:
    if message["type"] == "http.response.start":
        assert message["status"] == 200
        return "head"
    assert set(message) == {"type", "body", "more_body"}
    body, more = message["body"].decode(), message["more_body"]
    events = [block.removeprefix("data: ").removeprefix(": ") for block in body.split("\n\n")[:-1]]
    return "+".join(events) or "-" if more else "final" + body


def _living_tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return trio.lowlevel.current_statistics().tasks_living
