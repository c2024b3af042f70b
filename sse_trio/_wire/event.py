# ServerSentEvent: one event as a value, and the bytes it is on the wire. No I/O, no anyio.
#
# Rule 1: an event that exists can be encoded: it is encoded when it is made, and that is its validation.
#         What the wire can't carry is therefore refused at the line that made the event.
# Rule 2: nothing is silently changed. A line break in an id is an error, not a cleaned id. `errors="replace"` asks for
#         one change, of what UTF-8 can't carry.
# Rule 3: `data` and `comment` are split at CRLF, CR and LF only, the line ends of WHATWG HTML 9.2.6; not at
#         U+0085 or U+2028, at which str.splitlines() splits as well.
# Rule 4: what send() accepts beside events (str, int, mappings) is defined here too, in as_event().
# Rule 5: a plain text (is_plain) is legal as it is, its bytes are known without encoding it, and so is their number.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar, cast

from .._arguments.checks import check_function, shown, wrong
from .json import dumps_compact

__all__ = (
    "LINE_ENDS",
    "Sendable",
    "ServerSentEvent",
    "TextErrors",
    "as_event",
    "check_errors",
    "check_sep",
    "is_plain",
)

LINE_ENDS = ("\n", "\r\n", "\r")

TextErrors: TypeAlias = Literal["strict", "replace"]
"""What becomes of text that UTF-8 can't carry, as in ``str.encode``."""

_Value = TypeVar("_Value")
_RETRY_DIGITS = 18  # what clients take: Chromium reads 64 bits, our decoder as much


@dataclass(frozen=True, slots=True, init=False)
class ServerSentEvent:
    """One server-sent event, immutable and known to be legal.

    Args:
        data: the payload. ``int`` and ``float`` are sent as ``str()`` gives them, ``bytes`` must be UTF-8; for
            anything else see :meth:`json`. Line breaks are allowed: each line travels as a ``data`` field of its
            own and the client joins them with LF. A client dispatches no event that has no data at all.
        event: the event type; ``None`` means ``message``. One line.
        id: becomes the client's last event id. One line without NUL. The empty string resets it.
        retry: the client's reconnection time, in milliseconds.
        comment: ignored by clients; seen by whoever reads the wire. May have several lines.
        errors: what becomes of a lone surrogate in the text, which UTF-8 can't carry, and of ``bytes`` that are not
            UTF-8. ``"strict"`` raises :exc:`ValueError`; ``"replace"`` puts U+FFFD in its place. Use it for text that
            comes from elsewhere: a language model's token can hold half of a character.

    Raises:
        ValueError: the wire can't carry one of the values; the message says which, and what to write instead.
        TypeError: a value of a type that has no meaning here.

    The format is that of WHATWG HTML section 9.2.5 and 9.2.6.
    """

    data: str | None
    event: str | None
    id: str | None
    retry: int | None
    comment: str | None
    _wire: bytes = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        data: str | float | bytes | None = None,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 -- the wire's own name
        retry: int | None = None,
        comment: str | None = None,
        errors: TextErrors = "strict",
    ) -> None:
        if errors != "strict":
            check_errors(errors)
            data, event, id, comment = _replaced(data), _replaced(event), _replaced(id), _replaced(comment)  # noqa: A001
        text = data if data is None or type(data) is str else _data_as_text(data)
        set_field = object.__setattr__  # frozen: the only way, and the dataclass's own
        set_field(self, "data", text)
        set_field(self, "event", event)
        set_field(self, "id", id)
        set_field(self, "retry", retry)
        set_field(self, "comment", comment)
        set_field(self, "_wire", _encode_fields(text, event, id, retry, comment, "\n"))

    def encode(self, sep: str = "\n") -> bytes:
        r"""Return the event as it is on the wire, the blank line that ends it included.

        Fields come in the order comment, event, id, retry, data. ``sep`` is the line end: ``"\n"``, ``"\r\n"``
        or ``"\r"``; anything else raises :exc:`ValueError`.
        """
        if sep == "\n":
            return self._wire
        return _encode_fields(self.data, self.event, self.id, self.retry, self.comment, check_sep(sep))

    @classmethod
    def json(
        cls,
        value: object,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 -- as in __init__
        retry: int | None = None,
        comment: str | None = None,
        dumps: Callable[[object], str | bytes] | None = None,
        errors: TextErrors = "strict",
    ) -> ServerSentEvent:
        """Return an event whose data is ``value`` as JSON on one line: compact, non-ASCII kept.

        Dataclasses, ``datetime``, ``UUID``, ``Decimal`` and enums are known; with the extra ``json``
        (pydantic-core) pydantic models and many more. ``dumps`` replaces all that. ``errors`` is for the text that
        they return.

        Raises:
            TypeError: a type that is not known.
            ValueError: NaN or an infinity, for which JSON has no form.
        """
        text = dumps_compact(value) if dumps is None else _dump(dumps, value)
        return cls(text, event=event, id=id, retry=retry, comment=comment, errors=errors)

    # The wire form is derived, so copies and pickles carry the fields alone and are validated again.
    def __getstate__(self) -> tuple[str | None, str | None, str | None, int | None, str | None]:
        return (self.data, self.event, self.id, self.retry, self.comment)

    def __setstate__(self, state: tuple[str | None, str | None, str | None, int | None, str | None]) -> None:
        data, event, id_, retry, comment = state
        self.__init__(data, event=event, id=id_, retry=retry, comment=comment)  # type: ignore[misc]


Sendable: TypeAlias = ServerSentEvent | str | int | Mapping[str, object]
"""What ``send()`` takes: an event, its data as ``str`` or ``int``, or a mapping of ServerSentEvent's fields."""


def is_plain(text: str) -> bool:
    """Whether the text needs no look at its bytes: one line of ASCII, nearly every event of nearly every stream."""
    return text.isascii() and "\n" not in text and "\r" not in text


def as_event(event: Sendable, errors: TextErrors = "strict") -> ServerSentEvent:
    """Return the event that a sendable stands for. What it raises is what ServerSentEvent raises."""
    if isinstance(event, ServerSentEvent):
        return event
    if isinstance(event, Mapping):
        return _event_of_mapping(event, errors)
    if isinstance(event, (str, int)) and not isinstance(event, bool):
        return ServerSentEvent(event, errors=errors)
    msg = (
        f"an event must be a ServerSentEvent, a str, an int or a mapping of ServerSentEvent's fields, not "
        f"{type(event).__name__}; for an object as JSON write ServerSentEvent.json(value)"
    )
    raise TypeError(msg)


def _dump(dumps: Callable[[object], str | bytes], value: object) -> str | bytes:
    check_function("dumps", dumps, "a function that returns a str or UTF-8 bytes")
    text = dumps(value)
    if not isinstance(cast("object", text), (str, bytes)):
        raise TypeError(f"dumps must return a str or UTF-8 bytes; it returned {shown(text)}")
    return text


def check_sep(sep: str) -> str:
    """Return ``sep`` when it is one of the three line ends; ValueError otherwise."""
    if sep not in LINE_ENDS:
        msg = rf"sep={shown(sep)} is not a line end of an event stream; it must be '\n', '\r\n' or '\r'"
        raise ValueError(msg)
    return sep


_FIELDS = frozenset(("data", "event", "id", "retry", "comment"))


def check_errors(errors: object) -> None:
    """Raise ValueError for what is not a way to treat text that UTF-8 can't carry."""
    if errors not in ("strict", "replace"):  # a tuple: what no set can hold may be asked about
        raise wrong(ValueError, "errors", "'strict' or 'replace'", errors)


def _event_of_mapping(fields: Mapping[str, object], errors: TextErrors) -> ServerSentEvent:
    if not fields.keys() <= _FIELDS:
        unknown = shown([*sorted(map(str, fields.keys() - _FIELDS))])[1:-1]
        msg = (
            f"{unknown} is no field of an event (they are comment, data, event, id, retry); to send a mapping "
            "as JSON write ServerSentEvent.json(value)"
        )
        raise TypeError(msg)
    return ServerSentEvent(**fields, errors=errors)  # type: ignore[arg-type]  # __init__ checks the values


def _replaced(value: _Value) -> _Value | str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if not isinstance(value, str) or value.isascii():
        return value
    # By way of UTF-16, where two halves that belong together are one character again.
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _data_as_text(data: object) -> str:
    if isinstance(data, bytes):
        try:
            return data.decode()
        except UnicodeDecodeError as exc:
            msg = f"data={data[:40]!r} is not UTF-8 ({exc.reason}); an event stream is text: base64-encode binary data"
            raise ValueError(msg) from None
    # The plain value of a subclass: str() of an enum's member with a str or int mixed in is its name.
    if isinstance(data, str):
        return str.__str__(data)
    if isinstance(data, float):
        return float.__repr__(data)
    if isinstance(data, int) and not isinstance(data, bool):
        return _digits_of(data)
    msg = (
        f"data must be str, int, float or UTF-8 bytes, not {type(data).__name__}; "
        "for an object as JSON write ServerSentEvent.json(value)"
    )
    raise TypeError(msg)


def _digits_of(data: int) -> str:
    try:
        return int.__repr__(data)
    except ValueError:
        msg = "data must be an int that Python can print; this one has too many digits (sys.set_int_max_str_digits)"
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
    try:
        return (text + sep).encode()
    except UnicodeEncodeError as exc:
        msg = (
            f"{exc.object[max(0, exc.start - 8) : exc.end + 8]!r} has a lone surrogate, which UTF-8 can't carry; "
            "write ServerSentEvent(..., errors='replace') to have U+FFFD in its place"
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
        msg = f"{name}={text[:80]!r} has a line break, and travels on one line; encode it, with urllib.parse.quote say"
        raise ValueError(msg)
    if name == "id" and "\0" in text:
        msg = f"id={text[:80]!r} has a NUL, and a client ignores such an id (WHATWG HTML 9.2.6); leave it out"
        raise ValueError(msg)
    return str.__str__(text)


def _not_text(name: str, value: object) -> TypeError:
    return TypeError(f"{name} must be a str, not {type(value).__name__}; write {name}=str(...)")


def _milliseconds(retry: int) -> int:
    if not isinstance(cast("object", retry), int) or isinstance(retry, bool):
        msg = f"retry must be an int of milliseconds; got {shown(retry)}; write retry=3000 for three seconds"
        raise TypeError(msg)
    if retry < 0:
        msg = f"retry={shown(retry)} is negative; it is a time in milliseconds"
        raise ValueError(msg)
    if retry >= 10**_RETRY_DIGITS:
        msg = f"retry has more than {_RETRY_DIGITS} digits, and clients ignore such a time; it is in milliseconds"
        raise ValueError(msg)
    return int(retry)  # of an enum's member the text is its name
