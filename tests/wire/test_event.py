"""ServerSentEvent: what it refuses, what it is on the wire, and what a sendable stands for."""

from __future__ import annotations

import copy
import dataclasses
import enum
import pickle
from collections import UserDict
from collections.abc import Callable
from typing import Any

import fastapi.sse
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sse_trio import ServerSentEvent
from sse_trio._wire.decoder import EventDecoder
from sse_trio._wire.event import LINE_ENDS, as_event, check_sep, is_plain


class Color(str, enum.Enum):
    """A text with a name."""

    RED = "red"


class Level(int, enum.Enum):
    """A number with a name."""

    HIGH = 3000


@dataclasses.dataclass
class Model:
    """A model, as users have them."""

    price: int


class User(BaseModel):
    """A pydantic model."""

    name: str


class OtherServerSentEvent(BaseModel):
    """The event of another library, which may be a pydantic model."""

    data: str


class Text(str):
    """A subclass of str."""

    __slots__ = ()


# --- on the wire


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (ServerSentEvent("text"), b"data: text\n\n"),
        (ServerSentEvent(""), b"data: \n\n"),
        (ServerSentEvent(" leading"), b"data:  leading\n\n"),
        (ServerSentEvent(1), b"data: 1\n\n"),
        (ServerSentEvent(1.5), b"data: 1.5\n\n"),
        (ServerSentEvent(b"Gr\xc3\xbc\xc3\x9fe"), b"data: Gr\xc3\xbc\xc3\x9fe\n\n"),
        (ServerSentEvent("a\nb"), b"data: a\ndata: b\n\n"),
        (ServerSentEvent("a\r\nb\rc\n"), b"data: a\ndata: b\ndata: c\ndata: \n\n"),
        (ServerSentEvent("a\x85b\u2028c\x0bd"), "data: a\x85b\u2028c\x0bd\n\n".encode()),
        (ServerSentEvent("\ufeffmark"), "data: \ufeffmark\n\n".encode()),
        (ServerSentEvent(event="kind"), b"event: kind\n\n"),
        (ServerSentEvent(id="7"), b"id: 7\n\n"),
        (ServerSentEvent("data", id=7), b"id: 7\ndata: data\n\n"),
        (ServerSentEvent(id=""), b"id: \n\n"),
        (ServerSentEvent(retry=0), b"retry: 0\n"),
        (ServerSentEvent(comment="note"), b": note\n"),
        (ServerSentEvent(comment="two\r\nlines"), b": two\n: lines\n"),
        (ServerSentEvent(comment=""), b": \n"),
        (ServerSentEvent(comment="note", retry=1), b": note\nretry: 1\n"),
        (ServerSentEvent(), b"\n"),
        (
            ServerSentEvent("d", event="e", id="i", retry=1, comment="c"),
            b": c\nevent: e\nid: i\nretry: 1\ndata: d\n\n",
        ),
    ],
)
def test_wire(event: ServerSentEvent, wire: bytes) -> None:
    """Fields come in one order, one line each, and a blank line ends the event; data is split at line ends only."""
    assert event.encode() == wire


@pytest.mark.parametrize("sep", LINE_ENDS)
def test_line_ends(sep: str) -> None:
    """Every line of an event has the requested line end."""
    event = ServerSentEvent("one\r\ntwo", event="e", id="i", retry=1, comment="a\rb")
    lines = ["one", "two"]
    expected = [": a", ": b", "event: e", "id: i", "retry: 1", *[f"data: {line}" for line in lines], "", ""]
    assert event.encode(sep) == sep.join(expected).encode()


@pytest.mark.parametrize("sep", ["", "\n\n", " ", "x", None, 1])
def test_what_is_no_line_end(sep: Any) -> None:
    """Only the three line ends of an event stream are accepted."""
    with pytest.raises(ValueError, match="sep must be .* a line end"):
        ServerSentEvent("data").encode(sep)
    with pytest.raises(ValueError, match="sep must be .* a line end"):
        check_sep(sep)


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (ServerSentEvent(Color.RED), b"data: red\n\n"),
        (ServerSentEvent(Level.HIGH), b"data: 3000\n\n"),
        (ServerSentEvent(Text("text")), b"data: text\n\n"),
        (ServerSentEvent(event=Color.RED, id=Color.RED), b"event: red\nid: red\n\n"),
        (ServerSentEvent(comment=Color.RED), b": red\n"),
        (ServerSentEvent(retry=Level.HIGH), b"retry: 3000\n"),
    ],
)
def test_values_of_subclasses(event: ServerSentEvent, wire: bytes) -> None:
    """An enum member, or an instance of another str subclass, is sent as its plain value."""
    assert event.encode() == wire


texts = st.text().filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text))
lines = texts.filter(lambda text: not {"\r", "\n"} & set(text))


@pytest.mark.untraced
@given(
    data=texts,
    event=lines.filter(bool),
    id_=lines.filter(lambda text: "\0" not in text),
    retry=st.integers(0, 10**12),
    comment=texts,
    sep=st.sampled_from(LINE_ENDS),
)
def test_a_client_gets_what_was_meant(data: str, event: str, id_: str, retry: int, comment: str, sep: str) -> None:
    """A client decodes any event unchanged, except that every line break becomes LF."""
    decoder = EventDecoder()
    wire = ServerSentEvent(data, event=event, id=id_, retry=retry, comment=comment).encode(sep)
    (received,) = decoder.feed(wire + (b"" if sep != "\r" else b":\n"))  # after a CR there might be a LF
    assert received.data == data.replace("\r\n", "\n").replace("\r", "\n")
    assert (received.event, received.id, decoder.retry) == (event, id_, retry)


# --- what is refused


@pytest.mark.parametrize(
    ("fields", "error", "advice"),
    [
        ({"data": None, "event": "a\nb"}, ValueError, "urllib.parse.quote"),
        ({"event": "a\rb"}, ValueError, "urllib.parse.quote"),
        ({"id": "a\nb"}, ValueError, "urllib.parse.quote"),
        ({"id": "a\0b"}, ValueError, "id must not contain NUL"),
        ({"id": 1.5}, TypeError, r"id=str\(...\)"),
        ({"id": True}, TypeError, r"id=str\(...\)"),
        ({"id": 10**5000}, ValueError, "id must be an int that Python can print"),
        ({"event": 1}, TypeError, r"event=str\(...\)"),
        ({"event": b"kind"}, TypeError, r"event=str\(...\)"),
        ({"comment": 1}, TypeError, r"comment=str\(...\)"),
        ({"retry": -1}, ValueError, "retry must be 0 or more milliseconds"),
        ({"retry": 10**18}, ValueError, "clients ignore"),
        ({"retry": 10**5000}, ValueError, "clients ignore"),
        ({"retry": True}, TypeError, "retry=3000"),
        ({"retry": 1.5}, TypeError, "retry=3000"),
        ({"retry": "3000"}, TypeError, "retry=3000"),
        ({"data": b"\xff"}, ValueError, "base64"),
        ({"data": True}, TypeError, "ServerSentEvent.json"),
        ({"data": ["list"]}, TypeError, "got list; .*ServerSentEvent.json"),
        ({"data": Model(price=3)}, TypeError, "got Model; .*ServerSentEvent.json"),
        ({"data": {"a": 1}}, TypeError, "ServerSentEvent.json"),
        ({"data": "\ud800"}, ValueError, "errors='replace'"),
        ({"event": "\ud800"}, ValueError, "errors='replace'"),
        ({"id": "\udfff"}, ValueError, "errors='replace'"),
        ({"comment": "\ud800"}, ValueError, "errors='replace'"),
    ],
)
def test_what_the_wire_cant_carry(fields: dict[str, Any], error: type[Exception], advice: str) -> None:
    """An event that the wire can't carry raises where it is made, and the error says what to write instead."""
    with pytest.raises(error, match=advice):
        ServerSentEvent(**fields)


LONE = (
    ("a\ud83d", "a\ufffd"),
    ("\ude00b\ud83dx", "\ufffdb\ufffdx"),
    ("\ud83d\ude00", "\U0001f600"),
    ("é\0\ufeff", "é\0\ufeff"),
)


@pytest.mark.parametrize(("text", "replaced"), LONE)
def test_what_utf_8_cant_carry_is_replaced(text: str, replaced: str) -> None:
    """With errors="replace", each field already has the value that the client will receive."""
    event = ServerSentEvent(text, event=text, id=text.replace("\0", ""), comment=text, errors="replace")
    assert (event.data, event.event, event.comment) == (replaced, replaced, replaced)
    assert event.id == replaced.replace("\0", "")
    assert event.encode().decode().count(replaced) >= 3
    assert ServerSentEvent.json({text: [text]}, errors="replace").data is not None
    assert ServerSentEvent(b"a\xff", errors="replace").data == "a\ufffd"
    assert ServerSentEvent(1.5, errors="replace").data == "1.5"


def test_errors_are_strict_or_replaced() -> None:
    """errors must be "strict" or "replace"; a value that is not text is refused either way."""
    with pytest.raises(ValueError, match="errors must be 'strict' or 'replace'; got 'ignore'"):
        ServerSentEvent("a", errors="ignore")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="event must be a str"):
        ServerSentEvent("a", event=1, errors="replace")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="errors='replace'"):
        ServerSentEvent("\ud83d")


def test_nul_in_a_type_is_legal() -> None:
    """Only an id can't contain NUL; WHATWG allows it in other fields."""
    assert ServerSentEvent("\0", event="\0").encode() == b"event: \0\ndata: \0\n\n"


# --- a value


def test_it_is_a_value() -> None:
    """Events with equal fields are equal and hash alike; an event can't be changed, and its repr shows its fields."""
    event = ServerSentEvent(1, event="tick")
    assert event == ServerSentEvent("1", event="tick")
    assert event != ServerSentEvent(1)
    assert len({event, ServerSentEvent("1", event="tick")}) == 1
    assert repr(event) == "ServerSentEvent(data='1', event='tick', id=None, retry=None, comment=None)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.data = "2"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):  # TypeError: before Python 3.12, by a flaw of dataclasses
        event.other = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda event: pickle.loads(pickle.dumps(event)), dataclasses.replace],
    ids=["copy", "deepcopy", "pickle", "replace"],
)
def test_copies(again: Callable[[ServerSentEvent], ServerSentEvent]) -> None:
    """A copy, a pickle and the result of dataclasses.replace() are equal to the event and encode alike."""
    event = ServerSentEvent("a\nb", event="e", id="i", retry=1, comment="c")
    assert again(event) == event
    assert again(event).encode() == event.encode()
    assert again(event).encode("\r") == event.encode("\r")


def test_replace_is_checked() -> None:
    """dataclasses.replace() checks the new event like any other."""
    assert dataclasses.replace(ServerSentEvent("a", id="1"), id="2").encode() == b"id: 2\ndata: a\n\n"
    with pytest.raises(ValueError, match="line break"):
        dataclasses.replace(ServerSentEvent("a"), id="a\nb")


# --- what can be sent


@pytest.mark.parametrize(
    ("sendable", "event"),
    [
        ("text", ServerSentEvent("text")),
        (Color.RED, ServerSentEvent("red")),
        (7, ServerSentEvent("7")),
        ({}, ServerSentEvent()),
        ({"data": 1.5, "id": "1"}, ServerSentEvent("1.5", id="1")),
        ({"data": 1, "id": 2}, ServerSentEvent("1", id="2")),
        (UserDict(event="kind"), ServerSentEvent(event="kind")),
        (1.5, ServerSentEvent("1.5")),
        (Model(price=3), ServerSentEvent('{"price":3}')),
        (User(name="Ann"), ServerSentEvent('{"name":"Ann"}')),
        (["a", 1, None], ServerSentEvent('["a",1,null]')),
        ((), ServerSentEvent("[]")),
        ([User(name="Ann")], ServerSentEvent('[{"name":"Ann"}]')),
    ],
)
def test_sendables(sendable: Any, event: ServerSentEvent) -> None:
    """A str and a number are an event's data, a mapping is its fields; a model and a list are JSON."""
    assert as_event(sendable) == event


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ([ServerSentEvent("one")], r"got a list of events; send each of them: for event in events"),
        (
            OtherServerSentEvent(data="text"),
            "got the OtherServerSentEvent of .*test_event; write `from sse_trio import",
        ),
        (fastapi.sse.ServerSentEvent(data="text"), r"of fastapi.sse; write `from sse_trio import ServerSentEvent`"),
    ],
)
def test_what_is_mistaken_for_json(value: Any, advice: str) -> None:
    """Events in a list, and another library's events, are never sent as JSON; the error has the line to write."""
    with pytest.raises(TypeError, match=advice):
        as_event(value)


async def make_event() -> str:
    """Something to await."""
    return "event"


@pytest.mark.parametrize("take", [as_event, ServerSentEvent])
def test_a_forgotten_await(take: Callable[[Any], object]) -> None:
    """A coroutine in place of an event is closed, and the error says to write ``await``."""
    coroutine = make_event()
    with pytest.raises(TypeError, match="got a coroutine; write `await` before the call that made it"):
        take(coroutine)
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coroutine.send(None)


def test_an_event_stands_for_itself() -> None:
    """An event is passed on as the same object."""
    event = ServerSentEvent("data")
    assert as_event(event) is event


@pytest.mark.parametrize("value", [True, {"set"}, object(), Model])
def test_what_cant_be_sent(value: Any) -> None:
    """Anything else is refused, and the error names ServerSentEvent.json()."""
    with pytest.raises(TypeError, match=rf"got {type(value).__name__};.*ServerSentEvent\.json\(value\)"):
        as_event(value)


class Paint(enum.Enum):
    """An enum whose values are texts."""

    RED = "red"


class Scalar:
    """What numpy's scalars and arrays have, under the name of a built-in type."""

    def tolist(self) -> float:
        """Python's own number."""
        return 1.5


Scalar.__name__ = "bool"


@pytest.mark.parametrize(
    ("value", "advice", "works"),
    [
        (
            None,
            r"NoneType; leave the event out, or write ServerSentEvent\.json\(None\)",
            ServerSentEvent.json(None),
        ),
        (b"bytes", r"got bytes; to send UTF-8 text write ServerSentEvent\(value\)", ServerSentEvent(b"bytes")),
        (bytearray(b"x"), r"write ServerSentEvent\(bytes\(value\)\)", ServerSentEvent(bytes(bytearray(b"x")))),
        (memoryview(b"x"), r"write ServerSentEvent\(bytes\(value\)\)", ServerSentEvent(bytes(memoryview(b"x")))),
        (Paint.RED, r"got Paint; write Paint\.RED\.value", Paint.RED.value),
        (Scalar(), rf"got {__name__}\.bool; write value\.tolist\(\)", Scalar().tolist()),
    ],
)
def test_advice_for_what_cant_be_sent(value: Any, advice: str, works: Any) -> None:
    """The error of a value that can't be sent names it unmistakably, and what it says to write can be sent."""
    with pytest.raises(TypeError, match=advice):
        as_event(value)
    as_event(works)


@pytest.mark.parametrize("name", ["event", "id", "comment"])
def test_advice_for_an_enum_in_a_field(name: str) -> None:
    """A member of an enum in place of a text is told to give its value: its str() would be `Paint.RED`."""
    with pytest.raises(TypeError, match=rf"{name} must be a str.*; got Paint; write {name}=Paint\.RED\.value"):
        ServerSentEvent(**{name: Paint.RED})  # type: ignore[arg-type]


def test_an_event_is_no_json() -> None:
    """An event given to json() is refused: as an event it can be sent, and its data can be encoded."""
    with pytest.raises(TypeError, match="the value is an event already; send it as it is"):
        ServerSentEvent.json(ServerSentEvent("x"))
    with pytest.raises(TypeError, match="an object of type ServerSentEvent can't be converted to JSON"):
        ServerSentEvent.json([ServerSentEvent("x")])


@pytest.mark.parametrize("fields", [{"Data": 1}, {"data": 1, "typ": 2, "name": 3}, {1: 2}])
def test_mapping_of_other_things(fields: Any) -> None:
    """A mapping with an unknown key is refused, and the message lists the fields."""
    with pytest.raises(TypeError, match="fields of an event must be comment, data, event, id or retry; got "):
        as_event(fields)


def test_mapping_of_illegal_values() -> None:
    """The values of a mapping are checked like those of an event."""
    with pytest.raises(ValueError, match="line break"):
        as_event({"id": "a\nb"})


@given(text=st.text())
def test_plain_is_what_needs_no_look(text: str) -> None:
    """Plain text is one line of ASCII, so its length is its size in bytes."""
    if is_plain(text):
        assert ServerSentEvent(text).encode() == f"data: {text}\n\n".encode("ascii")
    else:
        assert not text.isascii() or len(text.splitlines()) > 1 or text.endswith(("\r", "\n"))
