"""EventTypes: what is declared is what is sent, decoded and refused."""

from __future__ import annotations

import copy
import dataclasses
import types
from typing import Any, Optional, TypeVar

import fastapi
import httpx
import msgspec
import pydantic
import pytest

from sse_trio import (
    EventSendChannel,
    EventSourceResponse,
    EventType,
    EventTypes,
    InvalidEventError,
    ReceivedEvent,
    ServerSentEvent,
    SSEError,
    UnknownEventError,
)
from sse_trio.client import open_event_source
from sse_trio.testing import StreamingASGITransport


class Tick(pydantic.BaseModel):
    symbol: str
    price: float


@dataclasses.dataclass
class DataTick:
    symbol: str
    price: float


class StructTick(msgspec.Struct):
    symbol: str
    price: float


class Done(pydantic.BaseModel):
    why: str


class Other(pydantic.BaseModel):
    symbol: str
    price: float


class Ticker(EventTypes[Tick | Done]):
    tick = EventType(Tick)
    done = EventType(Done, name="job.done")


TICK = Tick(symbol="ACME", price=9.5)


# --- from a producer to a client


# httpx's own iterators are async generators, and trio warns of those that are left behind.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
@pytest.mark.anyio
@pytest.mark.parametrize(
    "tick", [TICK, DataTick("ACME", 9.5), StructTick("ACME", 9.5)], ids=lambda tick: type(tick).__name__
)
async def test_values_through_a_response_to_a_client(tick: Any) -> None:
    """A client gets what the producer sent, of the same type, whichever library the type comes from."""
    events: EventTypes[Any] = EventTypes({"tick": type(tick), "job.done": Done})

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send(events.tick(tick, id="1"))
        await send_channel.send(ServerSentEvent("{}", event="newer"))
        await send_channel.send(events["job.done"](Done(why="sold out")))

    app = fastapi.FastAPI()

    @app.get("/ticks", response_class=EventSourceResponse, responses=events.responses())
    async def ticks() -> EventSourceResponse:
        return EventSourceResponse(produce)

    transport = StreamingASGITransport(app)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        open_event_source("/ticks", client=client, reconnect=False) as source,
    ):
        received = [(event.id, events.decode(event)) async for event in source if event.event in events]
    assert received == [("1", tick), ("1", Done(why="sold out"))]


# --- making events


def test_an_event_has_the_other_fields_of_any_event() -> None:
    """The name is that of the declaration, and id, retry and comment are what the caller says."""
    event = EventTypes({"tick": Tick}).tick(TICK, id="7", retry=10, comment="c")
    data = '{"symbol":"ACME","price":9.5}'
    assert event == ServerSentEvent(data, event="tick", id="7", retry=10, comment="c")


@pytest.mark.parametrize("value", [Other(symbol="ACME", price=9.5), {"symbol": "ACME", "price": 9.5}, None])
def test_a_value_of_another_class_is_refused(value: Any) -> None:
    """Also if it would look the same on the wire; the error names the event and both classes."""
    with pytest.raises(
        TypeError,
        match=rf"the value of event 'tick' must be of type Tick; got an object of type {type(value).__name__}$",
    ):
        EventTypes({"tick": Tick}).tick(value)


def test_a_wrong_field_is_refused_where_it_is_sent() -> None:
    """The error names the event and the field, and its cause is the library's own."""
    events = EventTypes({"tick": DataTick})
    with pytest.raises(
        ValueError, match=r"event 'tick' must match DataTick; got an object of type DataTick: price: "
    ) as info:
        events.tick(DataTick("ACME", "nine"))  # type: ignore[arg-type]
    assert isinstance(info.value.__cause__, pydantic.ValidationError)


# --- decoding


def test_data_of_another_type_is_an_error_that_names_the_field() -> None:
    """The error has the event, its cause is the library's own, and the values are not in it."""
    event = ReceivedEvent("tick", '{"symbol":"s3cret","price":"nine"}', "3")
    with pytest.raises(InvalidEventError, match=r"event 'tick' is not of type Tick: price: .*; the server") as info:
        EventTypes({"tick": Tick}).decode(event)
    assert info.value.event is event
    assert isinstance(info.value.__cause__, pydantic.ValidationError)
    assert isinstance(info.value, (SSEError, ValueError))
    assert "s3cret" not in str(info.value)


def test_the_error_stays_on_one_line() -> None:
    """A server can't add lines to a client's log."""
    with pytest.raises(InvalidEventError) as info:
        EventTypes({"counts": dict[str, int]}).decode(ReceivedEvent("counts", '{"a\\nERROR: b":"c"}'))
    assert "a ERROR: b" in str(info.value)


def test_an_unknown_event_is_an_error_that_says_how_to_skip_it() -> None:
    """`in` tells them apart before, and the error says so."""
    events = EventTypes({"tick": Tick})
    event = ReceivedEvent("newer", "{}")
    assert event.event not in events
    with pytest.raises(UnknownEventError, match=r"'newer' is not a declared.*'tick'.*if event.event in events") as info:
        events.decode(event)
    assert info.value.event is event
    assert isinstance(info.value, (SSEError, LookupError))


def test_one_event_decodes_its_own_only() -> None:
    """EventType.decode() is exact: another event of the same stream is an unknown one to it."""
    ticker = Ticker()
    assert ticker.done.decode(ReceivedEvent("job.done", '{"why":"sold out"}')) == Done(why="sold out")
    with pytest.raises(UnknownEventError):
        ticker.tick.decode(ReceivedEvent("job.done", '{"why":"sold out"}'))


# --- names


def test_events_by_attribute_and_by_index() -> None:
    """Any name is reached by index, and one that is an identifier as an attribute, too."""
    events = EventTypes({"tick": Tick, "job.done": Done, "decode": Done, "_seen": Done})
    assert list(events) == ["tick", "job.done", "decode", "_seen"]
    assert events.tick is events["tick"]
    assert {events[name].name for name in events} == set(events)
    assert events["decode"](Done(why="")).event == "decode"
    assert callable(events.decode)
    with pytest.raises(AttributeError, match="no attribute 'tock', and no event of that name is declared"):
        events.tock  # noqa: B018
    with pytest.raises(AttributeError):
        events._seen  # noqa: B018
    with pytest.raises(KeyError):
        events["tock"]


def test_what_has_not_been_initialised_has_no_attributes() -> None:
    """A copy is made without __init__; looking for its attributes raises AttributeError, and no RecursionError."""
    with pytest.raises(AttributeError):
        EventTypes.__new__(EventTypes)._types  # noqa: B018
    assert list(copy.copy(EventTypes({"tick": Tick}))) == ["tick"]


@pytest.mark.parametrize(
    ("name", "message"), [("", "would receive the event as 'message'"), ("a\nb", "line break"), ("\ud800", "surrogate")]
)
def test_a_name_that_no_event_can_have(name: str, message: str) -> None:
    """Refused in the declaration, in either form."""
    with pytest.raises(ValueError, match=message):
        EventTypes({name: Tick})
    with pytest.raises(ValueError, match=message):
        EventType(Tick, name=name)


def test_an_event_type_by_itself_needs_a_name() -> None:
    """The error says how to give it one."""
    with pytest.raises(AttributeError, match=r"write EventType\(\.\.\., name=\.\.\.\)"):
        EventType(Tick).name  # noqa: B018
    assert EventType(Tick, name="tick")(TICK).event == "tick"


def test_repr() -> None:
    """Names and types, as one would write them."""
    assert (
        repr(EventTypes({"tick": Tick, "prices": list[float]})) == "EventTypes({'tick': Tick, 'prices': list[float]})"
    )
    assert repr(Ticker.done) == "EventType(Done, name='job.done')"


# --- declarations


def test_a_class_of_events() -> None:
    """The attributes of a class are the events of its instances, under their own names or those given."""
    ticker = Ticker()
    assert list(ticker) == ["tick", "job.done"]
    assert ticker.tick(TICK).event == "tick"
    assert ticker.done(Done(why="")).event == "job.done"
    assert ticker["job.done"] is ticker.done
    assert repr(ticker) == "Ticker({'tick': Tick, 'job.done': Done})"


def test_a_class_inherits_events() -> None:
    """Those of its bases come first, and what is no event any more is none."""

    class More(Ticker):
        done = None  # type: ignore[assignment]
        last = EventType(Tick)

    assert list(More()) == ["tick", "last"]


def test_no_event_and_an_event_twice() -> None:
    """Neither makes sense; the errors say so."""
    with pytest.raises(ValueError, match="at least one event"):
        EventTypes({})
    with pytest.raises(ValueError, match=r"declared twice: 'job\.done'"):
        Ticker({"job.done": Done})


def test_a_class_can_not_hide_a_method() -> None:
    """The error says how to declare an event of that name."""
    with pytest.raises(TypeError, match=r"write decode_ = EventType\(\.\.\., name='decode'\)"):

        class Wrong(EventTypes[Tick]):
            decode = EventType(Tick)  # type: ignore[assignment]


def test_a_class_says_all_that_decode_returns() -> None:
    """A type that EventTypes[...] lacks is refused: a type checker would be told what is not so."""
    with pytest.raises(
        TypeError,
        match=r"Wrong\.done must have a type that.*; got Done; write class Wrong\(EventTypes\[Tick \| Done\]\)",
    ):

        class Wrong(EventTypes[Tick]):
            done = EventType(Done)

    with pytest.raises(TypeError, match="More.struct must have a type that .*; got StructTick"):

        class More(Ticker):
            struct = EventType(StructTick)


T = TypeVar("T")


@pytest.mark.parametrize(
    ("said", "declared"),
    [
        (Any, Tick),
        (object, Tick),
        (pydantic.BaseModel, Tick),
        ("Tick | Done", Tick),
        (T, Tick),  # type: ignore[valid-type]
        (list[Tick] | None, list[Tick]),
        (Optional[Tick], Tick | None),  # noqa: UP045 -- the same thing in other words
        (Tick | None, None),
    ],
)
def test_what_a_class_may_say(said: Any, declared: Any) -> None:
    """A union, a base class, None, and what the runtime can't know."""
    body = {"event": EventType(declared)}
    cls: Any = types.new_class("Said", (EventTypes[said],), exec_body=lambda namespace: namespace.update(body))
    assert list(cls()) == ["event"]


def test_a_class_without_an_argument_says_nothing() -> None:
    """Then decode() returns what nobody knows, and nothing is checked."""

    class Bare(EventTypes):  # type: ignore[type-arg]
        tick = EventType(Tick)

    assert list(Bare()) == ["tick"]
