"""Nonsense for each parameter of each public callable: it works, or it is refused where it is given, in plain words.

Rule 1: the table says which nonsense makes sense. All other values have to be refused with a TypeError or ValueError
        that is raised in the package itself, by the call that was given the value, and names the parameter.
Rule 2: what is accepted is used afterwards, and then nothing fails.
Rule 3: a public callable, or a parameter of one, that is neither in the table nor exempt with a reason fails a test.
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial, wraps
from http import HTTPStatus
from inspect import isawaitable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

import sse_trio
from sse_trio import (
    EventSourceResponse,
    EventType,
    EventTypes,
    Hub,
    ServerBridge,
    ServerSentEvent,
    StreamGroup,
    accepts_event_stream,
    compat,
    last_event_id,
    open_event_channel,
    open_hub,
    open_runs,
    preferred_media_type,
    publish_endpoint,
)
from sse_trio.inspector import stream_inspector
from sse_trio.metrics import EventStreamCollector
from sse_trio.stores import TopicFilter, check_topic
from sse_trio.testing import StreamingASGITransport, check_event_store, open_test_stream, virtual_backend
from sse_trio.tracing import RunTracer, StreamTracer

pytestmark = pytest.mark.anyio

PACKAGE = str(Path(sse_trio.__file__).parent)
FOREIGN = (
    "not supported between",
    "unsupported operand",
    "unhashable",
    "not iterable",
    "object is not callable",
    "object is not subscriptable",
    "has no attribute",
    "can't be used in 'await'",
    "unpack",
    "takes from",
    "missing 1 required",
)


class BadRepr:
    """What can't even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def nothing(*args: object, **kwargs: object) -> None:
    """Be a plain function."""


async def coroutine_function(*args: object, **kwargs: object) -> None:
    """Be a coroutine function."""


async def generator_function(*args: object) -> AsyncIterator[str]:
    """Be an async generator function."""
    yield "event"


class CallableObject:
    """Be an object whose call has to be awaited."""

    def __init__(self, *args: object) -> None:
        """Take anything."""

    async def __call__(self, *args: object) -> None:
        """Do nothing."""


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function."""

    @wraps(function)
    def call(*args: object) -> Any:
        return function(*args)

    return call


def in_a_lambda(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a function called by a lambda."""
    return lambda *args: function(*args, None)


NONSENSE: dict[str, Any] = {
    "None": None,
    "5": 5,
    "-1": -1,
    "0": 0,
    "0.5": 0.5,
    "1e-9": 1e-9,
    "True": True,
    "False": False,
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "10**400": 10**400,
    "-10**5000": -(10**5000),
    "'x'": "x",
    "''": "",
    "'*'": "*",
    "lines": "a\nb",
    "surrogate": "\ud800",
    "b'x'": b"x",
    "[]": [],
    "['x']": ["x"],
    "{}": {},
    "{1: 2}": {1: 2},
    "object": object(),
    "bad repr": BadRepr(),
    "int": int,
    "print": print,
    "def": nothing,
    "lambda": lambda *args: None,
    "async def": coroutine_function,
    "partial": partial(coroutine_function, 1),
    "async yield": generator_function,
    "async call": CallableObject(),
}

NONE = frozenset({"None"})
TEXT = frozenset({"'x'", "''", "'*'", "lines"})
LINE = frozenset({"'x'", "''", "'*'"})
FLAGS = frozenset({"True", "False"})
TIMES = frozenset({"5", "0.5", "1e-9", "inf"})
INTERVALS = TIMES - {"1e-9"}
COUNTS = frozenset({"5"})
CALLABLE = frozenset({"def", "lambda", "print", "int"})
ASYNC = frozenset({"async def", "partial", "async call"})
ANYTHING = frozenset(NONSENSE)
TOPIC = frozenset({"'x'", "lines"})
KEY = TOPIC | {"'*'"}
DATA = NONE | TEXT | {"5", "-1", "0", "0.5", "1e-9", "nan", "inf", "-inf", "10**400", "b'x'"}
SENDABLE = (DATA - NONE - {"b'x'"}) | {"[]", "['x']", "{}"}
IDS = LINE | {"5", "-1", "0", "10**400"}
EVENT_FIELDS = {"id": NONE | IDS, "retry": NONE | COUNTS | {"0"}, "comment": NONE | TEXT}
JSON = NONE | TEXT | {"5", "-1", "0", "0.5", "1e-9", "True", "False", "10**400", "[]", "['x']", "{}", "{1: 2}"}
SURROGATES = {name: f"{name}|surrogate" for name in ("data", "event", "id", "comment")}
SENT = {"event": "event|data|surrogate"}
TYPES = NONE | {"int"}
LABELS = {"user": "ann"}


@dataclass(frozen=True)
class Row:
    """A public callable: how it is called with one argument of its own, and which nonsense it takes for each."""

    name: str
    call: Callable[..., Any]
    takes: dict[str, frozenset[str]]
    use: Callable[[Any], Any] = nothing
    says: dict[str, str] = field(default_factory=dict)
    """What the errors call the parameter, where that is not its name."""


async def produce(send_channel: Any) -> None:
    """Send two events, with time between them."""
    await send_channel.send("first")
    await anyio.sleep(3)
    await send_channel.send("second")


async def serve(response: Any) -> None:
    """Serve a response; nothing may go wrong."""
    async with open_test_stream(response, wait_head=False) as stream:
        with anyio.move_on_after(20):
            await stream.wait_closed()


async def with_hub(call: Callable[[Any], Any]) -> None:
    """Call with an open hub."""
    async with open_hub() as hub:
        await call(hub)


async def with_runs(call: Callable[[Any], Any]) -> None:
    """Call with open runs."""
    async with open_hub() as hub, open_runs(hub) as runs:
        result = call(runs)
        if isawaitable(result) and not isinstance(result, EventSourceResponse):
            await result


async def open_and_use_runs(**options: Any) -> None:
    """Open runs, and start one."""
    async with open_hub() as hub, open_runs(**{"hub": hub, **options}) as runs:
        await runs.start("k", produce)
        await anyio.sleep(1)


async def subscribe(*topics: Any, **options: Any) -> None:
    """Subscribe, and receive an event."""
    async with open_hub() as hub:
        subscription = hub.subscribe(*topics or ("t",), **options)
        async with subscription:
            await hub.publish("t", "live")
            with anyio.move_on_after(1):
                await subscription.receive()


async def open_and_use_hub(**options: Any) -> None:
    """Open a hub, publish and receive."""
    async with open_hub(**options) as hub, hub.subscribe("t") as subscription:
        for n in range(3):
            await hub.publish("t", str(n))
        assert [(await subscription.receive()).data for _ in range(3)] == ["0", "1", "2"]


async def send_through(channel: Any) -> None:
    """Send an event through a channel that was opened."""
    send_channel, receive_channel = channel
    with send_channel, receive_channel, anyio.move_on_after(1):
        await send_channel.send("event")


async def send(event: Any, *, at_once: bool) -> None:
    """Send through a new channel."""
    send_channel, receive_channel = open_event_channel()
    with send_channel, receive_channel:
        if at_once:
            send_channel.send_nowait(event)
        else:
            await send_channel.send(event)
        assert receive_channel.receive_nowait().encode()


async def publish(topic: Any = "t", event: Any = "x", **options: Any) -> None:
    """Publish; a refused one has changed nothing."""
    async with open_hub() as hub:
        try:
            await hub.publish(topic, event, **options)
        finally:
            assert hub.statistics().published in (0, 1)


async def kick_streams(**arguments: Any) -> None:
    """Kick the streams of a group that has one; if that is refused it goes on."""
    group = StreamGroup(signals=False)
    async with open_test_stream(EventSourceResponse(produce, group=group)) as stream:
        try:
            if "everywhere" in arguments:
                await group.kick({"user": "ann"}, **arguments)
            else:
                await (group.kick(**arguments) if "predicate" in arguments else group.kick_stream(**arguments))
        except (TypeError, ValueError):
            assert not stream.is_closed
            assert group.statistics().open_streams == 1
            raise


async def open_stream(**arguments: Any) -> None:
    """Open a stream of the test kit."""
    response = EventSourceResponse(produce)

    async def answer(request: Request) -> EventSourceResponse:
        return response

    app = arguments.pop("app", Starlette(routes=[Route("/", answer)]) if "lifespan" in arguments else response)
    if isinstance(app, (EventSourceResponse, Starlette)):
        async with open_test_stream(app, **arguments) as stream:
            await stream.wait_closed()
    else:
        async with open_test_stream(app, wait_head=False):
            pass


async def use_stream(**arguments: Any) -> None:
    """Call a method of an open test stream that has one argument."""
    async with open_test_stream(EventSourceResponse(produce)) as stream:
        if "shield" in arguments:
            stream.stall(**arguments)
            stream.resume()
        else:
            stream.fail_send(**arguments)


def encode_compat(**fields: Any) -> bytes:
    """An event of the compatibility layer is checked where it is encoded, as sse-starlette's."""
    return compat.ServerSentEvent(**fields).encode()


def refuse_store(*args: object) -> Any:
    """Make no store."""
    raise LookupError("no store is made here")


async def check_store(make_store: Any = refuse_store, **options: Any) -> None:
    """Check the stores of a function that makes none."""
    with pytest.raises(LookupError):
        await check_event_store(make_store, **options)


@dataclass(frozen=True)
class Tick:
    """The data of an event."""

    price: float


def make_event_type(type: Any = Tick, **options: Any) -> EventType[Any]:  # noqa: A002 -- as EventType has it
    """Declare an event."""
    return EventType(type, **options)


tick = EventType(Tick, name="tick")
ticks = EventTypes({"tick": Tick})
GROUP = StreamGroup(name="group", signals=False)
COLLECTOR = EventStreamCollector()
REQUEST = Request({"type": "http", "headers": [], "query_string": b""})

TABLE: tuple[Row, ...] = (
    Row(
        "sse_trio.EventSourceResponse",
        lambda source=produce, **options: EventSourceResponse(source, **options),
        {
            "source": ASYNC,
            "producers": frozenset({"[]"}),
            "status_code": frozenset(),
            "headers": NONE | {"{}"},
            "background": NONE | ASYNC,
            "ping": NONE | INTERVALS | {"0"},
            "ping_message_factory": NONE | CALLABLE,
            "send_timeout": NONE | INTERVALS,
            "commit_within": NONE | TIMES | {"0"},
            "grace": TIMES - {"inf"} | {"0"},
            "max_lifetime": NONE | TIMES,
            "expires_at": NONE | {"5", "-1", "0", "0.5", "1e-9"},
            "retry": NONE | COUNTS | {"0"},
            "farewell": NONE | CALLABLE,
            "on_error": NONE | CALLABLE,
            "on_close": NONE | ASYNC,
            "sep": frozenset(),
            "max_buffer_size": COUNTS | {"0", "inf", "10**400"},
            "max_buffer_bytes": COUNTS | {"0.5", "1e-9", "inf", "10**400"},
            "content": frozenset(),
            "overflow": frozenset(),
            "conflate": NONE | CALLABLE,
            "labels": NONE | {"{}"},
            "group": NONE,
            "compress": NONE | {"[]"},
            "errors": frozenset(),
        },
        use=serve,
    ),
    Row("sse_trio.EventSendChannel.send", lambda event: send(event, at_once=False), {"event": SENDABLE}, says=SENT),
    Row(
        "sse_trio.EventSendChannel.send_nowait", lambda event: send(event, at_once=True), {"event": SENDABLE}, says=SENT
    ),
    Row(
        "sse_trio.EventType",
        make_event_type,
        {"type": TYPES, "name": NONE | LINE - {"''"}},
        says={"name": "name|event", "type": "type|has a JSON form"},
    ),
    Row(
        "sse_trio.EventType.__call__",
        lambda value=Tick(price=1.0), **fields: tick(value, **fields),
        {"value": frozenset(), **EVENT_FIELDS},
        says=SURROGATES,
    ),
    Row("sse_trio.EventType.decode", tick.decode, {"event": frozenset()}),
    Row("sse_trio.EventTypes", EventTypes, {"types": frozenset()}, says={"types": "EventTypes|types|name"}),
    Row("sse_trio.EventTypes.decode", ticks.decode, {"event": frozenset()}),
    Row("sse_trio.EventTypes.responses", ticks.responses, {"version": frozenset(), "name": NONE | {"'x'"}}),
    Row("sse_trio.EventTypes.components", ticks.components, {"version": frozenset(), "name": NONE | {"'x'"}}),
    Row(
        "sse_trio.Hub.publish",
        publish,
        {"topic": TOPIC, "event": SENDABLE, "key": NONE | TEXT - {"''"}, "ttl": NONE | {"5", "0.5"}},
        says=SENT,
    ),
    Row(
        "sse_trio.Hub.publish_many",
        lambda events=(("t", "x"),), **options: with_hub(lambda hub: hub.publish_many(events, **options)),
        {"events": frozenset({"[]"}), "key": NONE | TEXT - {"''"}, "ttl": NONE | {"5", "0.5"}},
    ),
    Row("sse_trio.Hub.delete", lambda topic: with_hub(lambda hub: hub.delete(topic)), {"topic": TOPIC}),
    Row(
        "sse_trio.Hub.history",
        lambda topics="t", **options: with_hub(lambda hub: hub.history(topics, **options)),
        {
            "topics": TOPIC | {"'*'"},
            "after": NONE | TEXT | {"surrogate"},
            "last": NONE | COUNTS | {"0"},
            "limit": COUNTS,
        },
        says={"topics": "topic|pattern"},
    ),
    Row("sse_trio.Hub.topic", Hub.topic, {"names": TEXT}, says={"names": "name"}),
    Row(
        "sse_trio.Hub.kick",
        lambda labels=LABELS, **options: with_hub(lambda hub: hub.kick(labels, **options)),
        {"labels": frozenset(), "group": NONE | TEXT},
    ),
    Row(
        "sse_trio.Hub.subscribe",
        lambda topics=None, **options: subscribe(*(() if topics is None else (topics,)), **options),
        {
            "topics": NONE | TOPIC | {"'*'"},
            "after": NONE | TEXT | {"surrogate"},
            "replay": NONE | COUNTS | {"0"},
            "overflow": frozenset(),
            "filter": NONE,
            "id_blocks": FLAGS,
            "until": NONE,
            "rewrite": NONE,
        },
        says={"topics": "topic|pattern"},
    ),
    Row(
        "sse_trio.ServerBridge",
        lambda app=coroutine_function, **options: ServerBridge(app, **options),
        {"app": ASYNC, "express": FLAGS},
    ),
    Row(
        "sse_trio.ServerSentEvent",
        ServerSentEvent,
        {"data": DATA, "event": NONE | LINE, **EVENT_FIELDS, "errors": frozenset()},
        says=SURROGATES,
    ),
    Row(
        "sse_trio.ServerSentEvent.json",
        lambda value="x", **options: ServerSentEvent.json(value, **options),
        {"value": JSON | {"b'x'"}, "event": NONE | LINE, "dumps": NONE, **EVENT_FIELDS, "errors": frozenset()},
        says={"value": "JSON|NaN|surrogate", "comment": "comment|surrogate"},
    ),
    Row("sse_trio.ServerSentEvent.encode", ServerSentEvent("x").encode, {"sep": frozenset()}),
    Row(
        "sse_trio.StreamGroup",
        StreamGroup,
        {
            "shutdown_grace": TIMES - {"inf"} | {"0"},
            "reconnect_within": NONE | TIMES - {"inf"},
            "farewell": NONE | CALLABLE,
            "max_streams": NONE | COUNTS,
            "max_streams_per": NONE,
            "accept_rate": NONE | {"5", "0.5"},
            "signals": FLAGS,
            "name": TEXT,
        },
        use=lambda group: serve(EventSourceResponse(produce, group=group)),
    ),
    Row("sse_trio.StreamGroup.kick", kick_streams, {"predicate": NONE, "everywhere": NONE}),
    Row("sse_trio.StreamGroup.kick_stream", kick_streams, {"number": COUNTS | {"0"}}),
    Row("sse_trio.StreamGroup.add_observer", StreamGroup().add_observer, {"observer": frozenset()}),
    Row("sse_trio.accepts_event_stream", accepts_event_stream, {"connection": frozenset()}),
    Row("sse_trio.last_event_id", last_event_id, {"connection": frozenset()}),
    Row(
        "sse_trio.preferred_media_type",
        lambda connection=REQUEST, media_types="text/html": preferred_media_type(connection, media_types),
        {"connection": frozenset(), "media_types": frozenset()},
        says={"media_types": "media.type"},
    ),
    Row(
        "sse_trio.open_event_channel",
        open_event_channel,
        {
            "max_buffer_size": COUNTS | {"0", "inf", "10**400"},
            "max_buffer_bytes": COUNTS | {"0.5", "1e-9", "inf", "10**400"},
            "overflow": frozenset(),
            "conflate": NONE | CALLABLE,
            "errors": frozenset(),
        },
        use=send_through,
    ),
    Row(
        "sse_trio.open_hub",
        open_and_use_hub,
        {"store": NONE, "name": TEXT, "max_ring_events": COUNTS, "max_ring_bytes": COUNTS},
    ),
    Row(
        "sse_trio.open_runs",
        open_and_use_runs,
        {
            "hub": frozenset(),
            "ttl": TIMES | {"0"},
            "lease": INTERVALS - {"inf"},
            "grace": TIMES - {"inf"} | {"0"},
            "on_end": NONE | CALLABLE,
            "max_events": NONE | COUNTS,
            "max_bytes": NONE | COUNTS,
            "max_duration": NONE | TIMES,
            "stop_when_unwatched": NONE | TIMES | {"0"},
            "prefix": TOPIC,
        },
        says={"prefix": "topic"},
    ),
    Row(
        "sse_trio.Runs.start",
        lambda key="k", produce=produce, **options: with_runs(lambda runs: runs.start(key, produce, **options)),
        {
            "key": KEY,
            "produce": ASYNC,
            "replace": FLAGS,
            "labels": NONE | {"{}"},
            "max_duration": NONE | TIMES,
            "stop_when_unwatched": NONE | TIMES | {"0"},
        },
        says={"key": "key|topic"},
    ),
    *[
        Row(
            f"sse_trio.Runs.{name}",
            lambda key="k", name=name, **options: with_runs(lambda runs: getattr(runs, name)(key, **options)),  # type: ignore[misc]
            {"key": KEY, **({"after": NONE | TEXT | {"surrogate"}} if name in ("response", "watch") else {})},
            says={"key": "key|topic"},
        )
        for name in ("stop", "status", "delete", "response", "watch")
    ],
    Row(
        "sse_trio.Runs.add_observer",
        lambda observer: with_runs(lambda runs: runs.add_observer(observer)),
        {"observer": frozenset()},
    ),
    Row("sse_trio.stores.TopicFilter", TopicFilter, {"patterns": TOPIC | {"'*'"}}, says={"patterns": "topic|pattern"}),
    Row("sse_trio.stores.check_topic", check_topic, {"topic": TOPIC}),
    Row(
        "sse_trio.testing.check_event_store",
        check_store,
        {
            "make_store": frozenset(),
            "durable": FLAGS,
            "shared": FLAGS,
            "make_by_prefix": NONE | {"print", "def", "lambda"},
        },
    ),
    Row("sse_trio.testing.virtual_backend", virtual_backend, {"backend": frozenset()}),
    Row(
        "sse_trio.testing.open_test_stream",
        open_stream,
        {
            "app": ASYNC,
            "path": TEXT,
            "method": TEXT,
            "headers": NONE | {"[]", "{}"},
            "params": NONE | {"[]", "{}"},
            "json": JSON | {"nan", "inf", "-inf", "surrogate"},
            "content": TEXT | {"b'x'"},
            "wait_head": FLAGS,
            "lifespan": FLAGS,
            "bridge": FLAGS,
            "close_within": TIMES | {"0"},
            "state": NONE | {"{}"},
        },
        says={"json": "JSON|json"},
    ),
    Row("sse_trio.testing.TestStream.stall", use_stream, {"shield": FLAGS}),
    Row("sse_trio.testing.TestStream.fail_send", use_stream, {"exc": frozenset()}),
    Row(
        "sse_trio.testing.StreamingASGITransport",
        lambda app=coroutine_function, **options: StreamingASGITransport(app, **options),
        {
            "app": ASYNC,
            "state": NONE | {"{}"},
            "root_path": TEXT,
            "client": frozenset(),
            "max_buffer_bytes": COUNTS,
            "close_within": TIMES | {"0"},
        },
    ),
    Row(
        "sse_trio.compat.EventSourceResponse",
        lambda content=("x",), **options: compat.EventSourceResponse(content, **options),
        {
            "content": TEXT | {"surrogate", "b'x'", "[]", "['x']", "{}", "{1: 2}"},
            "status_code": frozenset(),
            "headers": NONE | {"{}"},
            "media_type": NONE | LINE - {"''"},
            "background": NONE | ASYNC,
            "ping": NONE | INTERVALS | {"0"},
            "sep": NONE,
            "ping_message_factory": NONE | CALLABLE,
            "data_sender_callable": NONE | ASYNC,
            "send_timeout": NONE | INTERVALS,
            "client_close_handler_callable": NONE | ASYNC,
            "shutdown_event": NONE,
            "shutdown_grace_period": TIMES - {"inf"} | {"0"},
            "cleanup_timeout": NONE | TIMES | {"0"},
            "group": NONE,
        },
    ),
    Row(
        "sse_trio.compat.ServerSentEvent",
        encode_compat,
        {
            "data": ANYTHING - {"surrogate", "-10**5000"},
            "event": NONE | TEXT,
            "id": NONE | TEXT,
            "retry": NONE | COUNTS | {"0", "-1", "10**400", "True", "False"},
            "comment": ANYTHING - {"surrogate", "-10**5000"},
            "sep": NONE | TEXT,
        },
        says={name: f"{name}|string|surrogate|digits" for name in ("data", "event", "id", "retry", "comment", "sep")},
    ),
    Row(
        "sse_trio.compat.ensure_bytes",
        lambda data="x", sep="\n": compat.ensure_bytes(data, sep),
        {"data": ANYTHING - {"surrogate", "-10**5000", "{1: 2}"}, "sep": NONE | TEXT},
        says={"data": "string|keywords|surrogate", "sep": "sep|surrogate"},
    ),
    Row(
        "sse_trio.publish_endpoint",
        lambda hub=nothing, **options: publish_endpoint(hub, **options),
        {
            "hub": CALLABLE,
            "authorize": NONE | CALLABLE - {"int"} | ASYNC,
            "authorize_topic": NONE | CALLABLE - {"int"} | ASYNC,
            "max_bytes": COUNTS,
        },
    ),
    Row(
        "sse_trio.inspector.stream_inspector",
        lambda group=GROUP, **options: stream_inspector(group, **options),
        {
            "group": frozenset(),
            "hub": NONE | CALLABLE,
            "runs": NONE | CALLABLE,
            "authorize": NONE | CALLABLE - {"int"} | ASYNC,
            "allowed_hosts": NONE | {"[]", "['x']"},
        },
    ),
    Row(
        "sse_trio.metrics.EventStreamCollector",
        lambda groups=GROUP, **options: EventStreamCollector(groups, **options),
        {"groups": frozenset(), "first_event_buckets": frozenset(), "duration_buckets": frozenset()},
        says={"groups": "group"},
    ),
    Row("sse_trio.metrics.EventStreamCollector.add_group", COLLECTOR.add_group, {"group": frozenset()}),
    Row("sse_trio.metrics.EventStreamCollector.add_hub", COLLECTOR.add_hub, {"hub": frozenset()}),
    Row("sse_trio.metrics.EventStreamCollector.discard_hub", COLLECTOR.discard_hub, {"hub": frozenset()}),
    Row("sse_trio.metrics.EventStreamCollector.add_runs", COLLECTOR.add_runs, {"runs": frozenset()}),
    Row("sse_trio.metrics.EventStreamCollector.discard_runs", COLLECTOR.discard_runs, {"runs": frozenset()}),
    Row("sse_trio.tracing.RunTracer", RunTracer, {"tracer": NONE, "labels": frozenset({"[]", "['x']"})}),
    Row("sse_trio.tracing.RunTracer.run_ended", RunTracer().run_ended, {"run": frozenset()}),
    Row("sse_trio.tracing.StreamTracer", StreamTracer, {"tracer": NONE, "labels": frozenset({"[]", "['x']"})}),
    Row("sse_trio.tracing.StreamTracer.stream_closed", StreamTracer().stream_closed, {"stream": frozenset()}),
)

EXEMPT: dict[str, str] = {
    r"sse_trio\.\w+(Error|Statistics)(\.\w+)?": "made by the package, for users to read",
    r"sse_trio\.testing\.VirtualTimeError": "made by the package",
    r"sse_trio\.compat\.SendTimeoutError": "made by the package",
    r"sse_trio\.(CloseReason|RefusalReason)": "an enum",
    r"sse_trio\.(EventDecoder|ReceivedEvent)(\.\w+)?": "the client's: tests/wire/test_decoder.py",
    r"sse_trio\.Event(Send|Receive)Channel": "has no public constructor, and says so",
    r"sse_trio\.(Hub|Subscription)": "made by open_hub() and subscribe()",
    r"sse_trio\.(Run|RunEnd|Runs|RunStatus|HubHistory)": "made by the package, for users to read",
    r"sse_trio\.(Run|Stream)Observer(\.\w+)?": "a protocol, for users to implement",
    r"sse_trio\.StreamGroup\.close(_stream)?": "the old names of kick() and kick_stream()",
    r"sse_trio\.testing\.TestStream": "made by open_test_stream()",
    r"sse_trio\.testing\.StreamingASGITransport\.handle_async_request": "called by httpx",
    r"sse_trio\.compat\.JSONServerSentEvent": "as ServerSentEvent, whose arguments it takes",
    r"sse_trio\.compat\.EventSourceResponse\.enable_compression": "raises, whatever it is given",
    r"sse_trio\.stores\.\w*Store(\.\w+)?": "tests/stores",
    r"sse_trio\.publisher\.Publisher(Options)?(\.\w+)?": "tests/publisher",
    r"sse_trio\.stores\.(Claim|EventId|Gap|Held|Page|Retention|StoredEvent)(\.\w+)?": "values: tests/stores",
    r"sse_trio\.stores\.TopicFilter\.matches": "called for each event, with what check_topic() has passed",
}


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each public function and class, and the public methods of each class."""
    for module in ("", ".testing", ".compat", ".inspector", ".metrics", ".tracing", ".stores", ".publisher"):
        public = importlib.import_module(f"sse_trio{module}")
        for name in public.__all__:
            thing = getattr(public, name)
            if callable(thing):
                yield f"{public.__name__}.{name}", thing
            if inspect.isclass(thing):
                for method, function in vars(thing).items():
                    if inspect.isfunction(function) and not method.startswith("_"):
                        yield f"{public.__name__}.{name}.{method}", function


def parameters_of(thing: Callable[..., Any]) -> set[str]:
    """The names of its parameters."""
    try:
        return set(inspect.signature(thing).parameters) - {"self", "args", "options"}  # these go on as they are
    except ValueError:
        return set()


def test_no_public_callable_is_left_out() -> None:
    """Every parameter of every public callable is in the table above, or exempt, and then it says why."""
    rows = {row.name: set(row.takes) for row in TABLE}
    for name, thing in public_callables():
        if not any(re.fullmatch(pattern, name) for pattern in EXEMPT):
            assert parameters_of(thing) <= rows.get(name, set()), f"{name} is not in the table"


def test_every_exemption_is_one() -> None:
    """No exemption is of something that there isn't any more."""
    names = [name for name, _ in public_callables()]
    for pattern in EXEMPT:
        assert any(re.fullmatch(pattern, name) for name in names), pattern


# What comes of a lambda that should be awaited, or of a class that is called, is known when it has been called.
UNKNOWN = {
    **dict.fromkeys(("source", "produce", "app", "background", "on_close"), ("lambda",)),
    **dict.fromkeys(("data_sender_callable", "client_close_handler_callable"), ("lambda",)),
    **dict.fromkeys(("filter", "predicate", "conflate", "dumps", "make_store", "make_by_prefix"), ("int",)),
    **dict.fromkeys(("until", "rewrite"), ("int", "lambda", "def", "print")),
}
SHOWN = ("sse_trio.compat.ServerSentEvent", "sse_trio.compat.ensure_bytes")
"""What they are given is sent as `str()` has it, and whatever that raises is raised."""

CASES = [(row, parameter) for row in TABLE for parameter in row.takes]


@pytest.mark.parametrize(("row", "parameter"), CASES, ids=[f"{row.name}({name}=)" for row, name in CASES])
async def test_nonsense(row: Row, parameter: str) -> None:
    """What makes no sense is refused by the call that is given it, with the parameter's name; what is taken works."""
    wrong: list[str] = []
    for name, value in NONSENSE.items():
        if name in UNKNOWN.get(parameter, ()) or (name == "bad repr" and row.name in SHOWN):
            continue
        problem = await problem_with(row, parameter, name, value)
        if problem is not None:
            wrong.append(f"{parameter}={name}: {problem}")
    assert not wrong, "\n".join(wrong)


async def problem_with(row: Row, parameter: str, name: str, value: Any) -> str | None:
    """What is wrong with the answer to this nonsense, if anything is."""
    try:
        result = call_with(row, parameter, value)
        if isawaitable(result) and not isinstance(result, EventSourceResponse):
            result = await result
    except (TypeError, ValueError) as exc:
        return problem_with_error(row, parameter, name, exc)
    except Exception as exc:
        return f"raises {exc!r}"
    if name not in row.takes[parameter]:
        return "is taken"
    try:
        used = row.use(result)
        if isawaitable(used):
            await used
    except Exception as exc:
        return f"is taken, and then fails: {exc!r}"
    return None


def call_with(row: Row, parameter: str, value: Any) -> Any:
    """Call it with this one argument, by position where that is the only way."""
    try:
        by_name = inspect.signature(row.call).parameters.get(parameter)
    except ValueError:
        by_name = None
    positional = by_name is not None and by_name.kind in (by_name.POSITIONAL_ONLY, by_name.VAR_POSITIONAL)
    return row.call(value) if positional else row.call(**{parameter: value})


def problem_with_error(row: Row, parameter: str, name: str, exc: Exception) -> str | None:
    """What is wrong with this refusal, if anything is."""
    text = str(exc)
    if name in row.takes[parameter]:
        return f"is refused: {exc!r}"
    if any(words in text for words in FOREIGN):
        return f"is refused by accident: {exc!r}"
    if not re.search(row.says.get(parameter, parameter), text):
        return f"is refused, and nothing says what: {exc!r}"
    last = traceback.extract_tb(exc.__traceback__)[-1]
    if not last.filename.startswith(PACKAGE):
        return f"is refused somewhere else, in {last.filename}: {exc!r}"
    return None


def key_of(request: Request) -> str:
    """Say who it is."""
    return "ann"


NESTED: list[tuple[Callable[[], Any], str]] = [
    *[
        (lambda key=key: publish(key=key), "key")  # type: ignore[misc]
        for key in [
            ("p",),
            ("p", 1, 2),
            (5, 1),
            ["p", 1],
            ("p", "1"),
            ("p", True),
            ("p", -1),
            ("p", 2**63),
            ("\ud800", 1),
            b"p1",
        ]
    ],
    *[
        (lambda per=per: StreamGroup(max_streams_per=per), "max_streams_per")  # type: ignore[misc]
        for per in [(key_of, 0), (key_of, True), (key_of, math.nan), (key_of, "5"), (5, 5), (coroutine_function, 5)]
    ],
    *[
        (lambda headers=headers: EventSourceResponse(produce, headers=headers), "headers")  # type: ignore[misc]
        for headers in [{"a b": "x"}, {"": "x"}, {"x": 5}, {5: "x"}, {"x": "a\r\nb: c"}, {"x": "\u20ac"}, {"x\n": "y"}]
    ],
    *[
        (lambda code=code: EventSourceResponse(produce, status_code=code), "status_code")  # type: ignore[misc]
        for code in ["200", 200.0, 100, 199, 204, 205, 304, 600, 99, True]
    ],
    (lambda: EventSourceResponse(produce, labels={"user": 7}), "labels"),  # type: ignore[dict-item]
    (lambda: EventSourceResponse(produce, labels={7: "user"}), "labels"),  # type: ignore[dict-item]
    (lambda: EventSourceResponse(produce, producers=[nothing]), "producers"),  # type: ignore[list-item]
    (lambda: EventSourceResponse(produce, producers=[produce, 5]), "producers"),  # type: ignore[list-item]
    (lambda: EventSourceResponse(nothing), "source"),  # type: ignore[arg-type]
    (lambda: EventSourceResponse(produce, on_close=[].append), "on_close"),  # type: ignore[arg-type]
    (lambda: open_event_channel(math.inf, max_buffer_bytes=math.inf), "max_buffer_size"),
    (lambda: with_hub(lambda hub: hub.publish_many([("t", "x", "y")])), "events"),
    (lambda: with_hub(lambda hub: hub.publish_many(["tx"])), "events"),
    (lambda: open_stream(headers=[("a", "b", "c")]), "headers"),
    (lambda: open_stream(headers={"a": 5}), "headers"),
    (lambda: open_stream(headers={"a": "\u20ac"}), "headers"),
    (lambda: open_stream(params=[("a",)]), "params"),
    (lambda: open_stream(state={5: "hub"}), "state"),
    (lambda: StreamingASGITransport(coroutine_function, state={5: "hub"}), "state"),  # type: ignore[dict-item]
    (lambda: stream_inspector(GROUP, allowed_hosts=["a", 5]), "allowed_hosts"),  # type: ignore[list-item]
    (lambda: EventStreamCollector(duration_buckets=(2, 1)), "duration_buckets"),
    (lambda: EventStreamCollector(duration_buckets=(1, True)), "duration_buckets"),
    (lambda: StreamTracer(labels=(1,)), "labels"),  # type: ignore[arg-type]
    (lambda: virtual_backend(("trio", 5)), "backend"),  # type: ignore[arg-type]
    (lambda: StreamGroup().add_observer(AsyncObserver()), "stream_closed"),  # type: ignore[arg-type]
]


class AsyncObserver:
    """An observer that would have to be awaited."""

    async def stream_closed(self, stream: object) -> None:
        """Take note."""


@pytest.mark.parametrize(("call", "name"), NESTED, ids=[f"{n}-{name}" for n, (_, name) in enumerate(NESTED)])
async def test_nonsense_inside_of_arguments(call: Callable[[], Any], name: str) -> None:
    """A mistake inside a pair, a mapping or a sequence is refused like a mistake in the whole."""
    with pytest.raises((TypeError, ValueError), match=name) as caught:
        result = call()
        if isawaitable(result) and not isinstance(result, EventSourceResponse):
            await result
    assert not any(words in str(caught.value) for words in FOREIGN)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].filename.startswith(PACKAGE)


@pytest.mark.parametrize("predicate", [lambda labels: None, lambda labels: 1, lambda labels: coroutine_function()])
async def test_a_predicate_that_decides_nothing_ends_no_stream(predicate: Any) -> None:
    """A predicate that returns neither True nor False, a coroutine above all, kicks no stream."""
    group = StreamGroup(signals=False)
    async with open_test_stream(EventSourceResponse(produce, group=group)) as stream:
        with pytest.raises(TypeError, match="predicate must return True or False; it returned"):
            await group.kick(predicate)
        assert not stream.is_closed
        assert group.statistics().closed == {}
        assert await group.kick(lambda labels: False) == 0
        assert await group.kick(lambda labels: True) == 1


@pytest.mark.parametrize("wrapper", [in_a_lambda, wrapped, partial, CallableObject])
async def test_what_may_return_an_awaitable_is_taken(wrapper: Any) -> None:
    """A lambda, a wrapped coroutine function, a partial and an object with `__call__` are taken."""
    await serve(EventSourceResponse(produce, on_close=wrapper(coroutine_function)))


@pytest.mark.parametrize(
    "call",
    [
        lambda coroutine: EventSourceResponse(produce, on_close=coroutine),
        lambda coroutine: EventSourceResponse(produce, on_error=coroutine),
        lambda coroutine: EventSourceResponse(produce, producers=[coroutine]),
        compat.EventSourceResponse,
        lambda coroutine: stream_inspector(GROUP, authorize=coroutine),
    ],
)
def test_the_result_in_the_place_of_the_function(call: Callable[[Any], Any]) -> None:
    """A coroutine where its function belongs is refused, and closed: nothing says later that it was never awaited."""
    coroutine = coroutine_function()
    with pytest.raises(TypeError):
        call(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


async def test_what_is_marked_as_a_coroutine_function_is_one() -> None:
    """A mock that is awaited is taken where something is awaited, and nowhere else."""
    on_close = AsyncMock()
    await serve(EventSourceResponse(produce, on_close=on_close))
    on_close.assert_awaited_once()
    with pytest.raises(TypeError, match="filter"):
        await subscribe(filter=AsyncMock())


class Size(IntEnum):
    """A number with a name."""

    SMALL = 4


def test_a_number_with_a_name_is_a_number() -> None:
    """An int of a class derived from it is an int."""
    response = EventSourceResponse(produce, max_buffer_size=Size.SMALL, status_code=HTTPStatus.OK)
    assert response.status_code == 200
