# ServerSentEvent: one event as a value, and its bytes on the wire: encoded in _encode_fields(). No I/O, no anyio.
#
# Rule 1: an event is encoded when it is made, and that validates it. So every event can be sent, and bad input raises
#         at the line that makes the event.
# Rule 2: nothing is changed silently: a line break in an id is an error. `errors="replace"` allows one change, of text
#         that UTF-8 can't encode.
# Rule 3: `data` and `comment` are split only at CRLF, CR and LF, the line ends of WHATWG HTML 9.2.6. str.splitlines()
#         would also split at U+0085 and U+2028.
# Rule 4: as_event() defines what else send() accepts: what can mean one thing only. Everything else is an error that
#         says what to write.
# Rule 5: plain text (is_plain) is always legal, and its size on the wire is known without encoding it. It stays a str,
#         which a channel encodes with others in one go (_channels/buffer.py).
# Rule 6: a block of comments and `retry` alone has no blank line at its end. Both take effect with their line, and the
#         blank line would reach some clients (@microsoft/fetch-event-source, httpx-sse) as an empty message.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar, cast

from .._arguments.checks import check_function, shown, wrong
from .json import Model, dumps_compact
from .wrong_value import instead_of_event, instead_of_text, is_json

__all__ = (
    "LINE_ENDS",
    "Sendable",
    "ServerSentEvent",
    "TextErrors",
    "as_event",
    "check_errors",
    "check_sep",
    "is_plain",
    "with_topic",
)

LINE_ENDS = ("\n", "\r\n", "\r")

TextErrors: TypeAlias = Literal["strict", "replace"]
"""How to treat text that UTF-8 can't encode, as in ``str.encode``."""

_Value = TypeVar("_Value")
_RETRY_DIGITS = 18  # what clients accept: Chromium and our decoder read 64 bits


@dataclass(frozen=True, slots=True, init=False)
class ServerSentEvent:
    """One server-sent event, immutable and known to be legal.

    Args:
        data: the payload. ``int`` and ``float`` are sent as ``str()`` formats them, ``bytes`` must be UTF-8; for
            other types see :meth:`json`. Line breaks are allowed: each line is sent as its own ``data`` field, and the
            client joins them with LF. A client ignores an event without data.
        event: the event type; ``None`` means ``message``. One line.
        id: the client's last event id from now on. One line without NUL; an ``int`` becomes its digits. The empty
            string resets it.
        retry: the client's reconnection time, in milliseconds.
        comment: text that clients ignore; you see it when you look at the raw stream. May have several lines.
        errors: how to treat a lone surrogate in the text, which UTF-8 can't encode, and ``bytes`` that are not UTF-8.
            ``"strict"`` raises :exc:`ValueError`; ``"replace"`` replaces them with U+FFFD. Use that for text you don't
            control: a language model's token can contain half of a character.

    Raises:
        ValueError: a value can't be sent; the message says which, and what to write instead.
        TypeError: a value has the wrong type.

    The format is defined in WHATWG HTML sections 9.2.5 and 9.2.6.
    """

    data: str | None
    event: str | None
    id: str | None
    retry: int | None
    comment: str | None
    _wire: bytes = field(init=False, repr=False, compare=False)
    _topic: str = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        data: str | float | bytes | None = None,
        *,
        event: str | None = None,
        id: str | int | None = None,  # noqa: A002 -- the name of the field on the wire
        retry: int | None = None,
        comment: str | None = None,
        errors: TextErrors = "strict",
    ) -> None:
        if errors != "strict":
            check_errors(errors)
            data, event, id, comment = _replaced(data), _replaced(event), _replaced(id), _replaced(comment)  # noqa: A001
        text = data if data is None or type(data) is str else _data_as_text(data)
        if id is not None and type(id) is not str:
            id = _id_as_text(id)  # noqa: A001
        set_field = object.__setattr__  # the class is frozen; dataclasses do this too
        set_field(self, "data", text)
        set_field(self, "event", event)
        set_field(self, "id", id)
        set_field(self, "retry", retry)
        set_field(self, "comment", comment)
        set_field(self, "_wire", _encode_fields(text, event, id, retry, comment, "\n"))

    def encode(self, sep: str = "\n") -> bytes:
        r"""Return the event's bytes on the wire, including the blank line that ends it.

        A comment or ``retry`` alone has no blank line: it takes effect without one, and some clients would take it for
        an empty message. Fields come in the order comment, event, id, retry, data. ``sep`` is the line end:
        ``"\n"``, ``"\r\n"`` or ``"\r"``; other values raise :exc:`ValueError`.
        """
        if sep == "\n":
            return self._wire
        return _encode_fields(self.data, self.event, self.id, self.retry, self.comment, check_sep(sep))

    @property
    def topic(self) -> str | None:
        """The topic of an event that was received from a hub; ``None`` for any other. It is not sent to clients."""
        return getattr(self, "_topic", None)  # set by with_topic() below alone, so that it costs other events nothing

    @classmethod
    def json(
        cls,
        value: object,
        *,
        event: str | None = None,
        id: str | int | None = None,  # noqa: A002 -- as in __init__
        retry: int | None = None,
        comment: str | None = None,
        dumps: Callable[[object], str | bytes] | None = None,
        errors: TextErrors = "strict",
    ) -> ServerSentEvent:
        """Return an event whose data is ``value`` as JSON: on one line, compact, with non-ASCII characters kept.

        It supports dataclasses, ``datetime``, ``UUID``, ``Decimal`` and enums; with the extra ``json`` (pydantic-core)
        also pydantic models and many other types. Pass ``dumps`` to use another serializer. ``errors`` applies to the
        JSON text.

        Raises:
            TypeError: a value's type is not supported.
            ValueError: a value is NaN or an infinity, which JSON doesn't have.
        """
        if isinstance(value, ServerSentEvent):
            msg = "the value is an event already; send it as it is, or write ServerSentEvent.json(event.data)"
            raise TypeError(msg)
        text = dumps_compact(value) if dumps is None else _dump(dumps, value)
        return cls(text, event=event, id=id, retry=retry, comment=comment, errors=errors)

    # Copies and pickles hold only the fields. They are encoded, and so validated, again. Not by __getstate__(), which
    # Python 3.10 replaces in a frozen dataclass with slots.
    def __reduce__(self) -> tuple[Callable[..., ServerSentEvent], tuple[str | int | None, ...]]:
        return _made_again, (self.data, self.event, self.id, self.retry, self.comment)


def _made_again(
    data: str | None,
    event: str | None,
    id: str | None,  # noqa: A002 -- the name of the field on the wire
    retry: int | None,
    comment: str | None,
) -> ServerSentEvent:
    return ServerSentEvent(data, event=event, id=id, retry=retry, comment=comment)


Sendable: TypeAlias = ServerSentEvent | str | float | Mapping[str, object] | Model | list[Any] | tuple[Any, ...]
"""What ``send()`` accepts: an event; its data as ``str``, ``int`` or ``float``; a mapping of ServerSentEvent's fields;
or a pydantic model, a dataclass, a list or a tuple, which become JSON."""


def with_topic(event: ServerSentEvent, topic: str) -> ServerSentEvent:
    """Note the topic that a new event was received from, and return the event."""
    object.__setattr__(event, "_topic", topic)
    return event


def is_plain(text: str) -> bool:
    """Return whether the text is one line of ASCII, as nearly every event of nearly every stream is."""
    return text.isascii() and "\n" not in text and "\r" not in text


def as_event(event: Sendable, errors: TextErrors = "strict") -> ServerSentEvent:
    """Return the event for a sendable. Raises what ServerSentEvent raises."""
    if isinstance(event, ServerSentEvent):
        return event
    if isinstance(event, Mapping):
        return _event_of_mapping(event, errors)
    if isinstance(event, (str, int, float)) and not isinstance(event, bool):
        return ServerSentEvent(event, errors=errors)
    if is_json(event):
        return ServerSentEvent.json(event, errors=errors)
    raise TypeError(f"an event must be {_SENDABLE}; got {instead_of_event(event)}")


_SENDABLE = (
    "a ServerSentEvent, a str, an int, a float, a mapping of ServerSentEvent's fields, a pydantic model, a dataclass "
    "or a list of JSON values"
)


def _dump(dumps: Callable[[object], str | bytes], value: object) -> str | bytes:
    check_function("dumps", dumps, "a function that returns a str or UTF-8 bytes")
    text = dumps(value)
    if not isinstance(cast("object", text), (str, bytes)):
        raise TypeError(f"dumps must return a str or UTF-8 bytes; it returned {shown(text)}")
    return text


def check_sep(sep: str) -> str:
    """Return ``sep`` if it is one of the three line ends; raise ValueError otherwise."""
    if sep not in LINE_ENDS:
        raise wrong(ValueError, "sep", r"'\n', '\r\n' or '\r', a line end of an event stream", sep)
    return sep


_FIELDS = frozenset(("data", "event", "id", "retry", "comment"))


def check_errors(errors: object) -> None:
    """Raise ValueError unless the value is one of TextErrors."""
    if errors not in ("strict", "replace"):  # not a set: the value may be unhashable
        raise wrong(ValueError, "errors", "'strict' or 'replace'", errors)


def _event_of_mapping(fields: Mapping[str, object], errors: TextErrors) -> ServerSentEvent:
    if not fields.keys() <= _FIELDS:
        unknown = shown([*sorted(map(str, fields.keys() - _FIELDS))])[1:-1]
        msg = (
            f"the fields of an event must be comment, data, event, id or retry; got {unknown}; to send a mapping "
            "as JSON write ServerSentEvent.json(value)"
        )
        raise TypeError(msg)
    return ServerSentEvent(**fields, errors=errors)  # type: ignore[arg-type]  # __init__ checks the values


def _replaced(value: _Value) -> _Value | str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if not isinstance(value, str) or value.isascii():
        return value
    # Through UTF-16, which turns a pair of surrogates back into one character.
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _data_as_text(data: object) -> str:
    if isinstance(data, bytes):
        try:
            return data.decode()
        except UnicodeDecodeError as exc:
            msg = f"data must be UTF-8 ({exc.reason}); got {shown(data)}; base64-encode binary data, a stream is text"
            raise ValueError(msg) from None
    # The base type's own value: str() of a str or int enum member is the member's name.
    if isinstance(data, str):
        return str.__str__(data)
    if isinstance(data, float):
        return float.__repr__(data)
    if isinstance(data, int) and not isinstance(data, bool):
        return _digits_of("data", data)
    raise TypeError(f"data must be a str, an int, a float or UTF-8 bytes; got {instead_of_event(data)}")


def _id_as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return _digits_of("id", value)
    raise TypeError(f"id must be a str or an int; got {instead_of_text('id', value)}")


def _digits_of(name: str, number: int) -> str:
    try:
        return int.__repr__(number)
    except ValueError:
        msg = f"{name} must be an int that Python can print; got one with too many digits (sys.set_int_max_str_digits)"
        raise ValueError(msg) from None


def _encode_fields(
    data: str | None, event: str | None, id_: str | None, retry: int | None, comment: str | None, sep: str
) -> bytes:
    text = ""
    if comment is not None:
        text = "".join([f": {line}{sep}" for line in _lines("comment", comment)])
    if event is not None:
        text += f"event: {_one_line('event', event)}{sep}"
    if id_ is not None:
        text += f"id: {_one_line('id', id_)}{sep}"
    if retry is not None:
        text += f"retry: {_milliseconds(retry)}{sep}"
    if data is not None:
        if "\n" in data or "\r" in data:
            text += "".join([f"data: {line}{sep}" for line in _lines("data", data)])
        else:
            text += f"data: {data}{sep}"
    is_block = data is not None or id_ is not None or event is not None or not text
    try:
        return (text + sep if is_block else text).encode()
    except UnicodeEncodeError as exc:
        msg = (
            f"{exc.object[max(0, exc.start - 8) : exc.end + 8]!r} has a lone surrogate, which UTF-8 can't encode; "
            "write ServerSentEvent(..., errors='replace') to replace it with U+FFFD"
        )
        raise ValueError(msg) from None


def _lines(name: str, text: str) -> list[str]:
    if not isinstance(cast("object", text), str):
        raise _not_text(name, text)
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _one_line(name: str, text: str) -> str:
    if not isinstance(cast("object", text), str):
        raise _not_text(name, text)
    if "\n" in text or "\r" in text:
        msg = f"{name} must be one line; got {shown(text)}; encode the line break, for example with urllib.parse.quote"
        raise ValueError(msg)
    if name == "id" and "\0" in text:
        msg = f"id must not contain NUL, or clients ignore it (WHATWG HTML 9.2.6); got {shown(text)}"
        raise ValueError(msg)
    return str.__str__(text)


def _not_text(name: str, value: object) -> TypeError:
    return TypeError(f"{name} must be a str; got {instead_of_text(name, value)}")


def _milliseconds(retry: int) -> int:
    if not isinstance(cast("object", retry), int) or isinstance(retry, bool):
        msg = f"retry must be an int of milliseconds; got {shown(retry)}; write retry=3000 for three seconds"
        raise TypeError(msg)
    if retry < 0:
        raise wrong(ValueError, "retry", "0 or more milliseconds", retry)
    if retry >= 10**_RETRY_DIGITS:
        msg = f"retry must be milliseconds of at most {_RETRY_DIGITS} digits, or clients ignore it; got more digits"
        raise ValueError(msg)
    return int(retry)  # str() of an int enum member is its name
