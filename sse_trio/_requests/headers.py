# Headers of a request: which media type a client prefers (Accept, RFC 9110, section 12.5.1), for endpoints that can
# answer with an event stream or with something else; which event it has received last (Last-Event-ID). Also the one
# reader of weights (`q=`).
#
# Rule 1: a media type gets the quality of the most specific range that it matches, and of equally specific ranges the
#         highest. Between types of the same quality, the server's order decides.
# Rule 2: a malformed part of the header is ignored, and the other parts count. No header raises, and reading one takes
#         time linear in its length. If no part is legal, the client accepts anything, as without the header.
# Rule 3: everything sent here is UTF-8, so a range with `charset=utf-8` is read as the range without it.

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

from .._arguments.checks import wrong
from .._arguments.http import headers_of

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

__all__ = ("accepts_event_stream", "last_event_id", "preferred_media_type", "quality_of", "read_weight")

EVENT_STREAM = "text/event-stream"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_WEIGHT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}")  # Java's HTTP client sends `.2`
_ESCAPED = re.compile(r"\\(.)")
_BLANK = " \t"


class _Range(NamedTuple):
    type: str
    subtype: str
    parameters: frozenset[tuple[str, str]]
    weight: float

    def matches(self, other: _Range) -> bool:
        return (
            self.type in ("*", other.type)
            and self.subtype in ("*", other.subtype)
            and self.parameters <= other.parameters
        )

    def precedence(self) -> tuple[bool, bool, int, float]:
        return self.type != "*", self.subtype != "*", len(self.parameters), self.weight


def accepts_event_stream(connection: HTTPConnection) -> bool:
    """Return whether the client accepts an event stream, by its ``Accept`` header (RFC 9110, section 12.5.1).

    True without that header, and for ``*/*``. Use it if your endpoint only offers an event stream, and answer 406 if
    this is false. If it offers something else too, use :func:`preferred_media_type`.
    """
    return preferred_media_type(connection, EVENT_STREAM) is not None


def preferred_media_type(connection: HTTPConnection, *media_types: str) -> str | None:
    """Return the media type that the client prefers, by its ``Accept`` header (RFC 9110, section 12.5.1).

    Args:
        connection: the request.
        media_types: the media types that you offer, in your order of preference. The first one is returned if the
            client has no preference, as with ``*/*`` or without the header.

    Returns:
        One of ``media_types``, or ``None`` if the client accepts none of them: then answer 406. In either case send
        ``Vary: Accept``, since the answer depends on that header and a cache must know.

    Raises:
        TypeError: a media type is not a ``str`` (but a list of them, for example).
        ValueError: there are no media types, or one is malformed. A malformed header never raises.
    """
    if not media_types:
        msg = "media_types must be one or more, such as 'application/json', 'text/event-stream'; got none"
        raise ValueError(msg)
    for media_type in media_types:
        if not isinstance(cast("object", media_type), str):
            wanted = "str, such as 'application/json' (pass a list as *media_types)"
            raise wrong(TypeError, "media_types", wanted, media_type)
    accept = ", ".join(headers_of(connection).getlist("accept"))
    qualities = [quality_of(accept, media_type) for media_type in media_types]
    best = max(qualities)
    return media_types[qualities.index(best)] if best > 0 else None


def last_event_id(connection: HTTPConnection) -> str | None:
    """Return the id of the last event that a reconnecting client received; ``None`` for a first connection.

    Reads the header ``Last-Event-ID`` (WHATWG HTML section 9.2.4; sent as UTF-8), then the query parameters
    ``lastEventId`` and ``last_event_id``, for clients that can't set headers.
    """
    header = headers_of(connection).get("last-event-id")
    if header is not None:
        return header.encode("latin-1").decode(errors="replace")
    query = connection.query_params
    return query.get("lastEventId", query.get("last_event_id"))


def quality_of(accept: str, media_type: str) -> float:
    """Return the quality of a media type for a client that sends this header, from 0 (not acceptable) to 1.

    Raises:
        ValueError: the media type is malformed.
    """
    offered = _read_range(media_type)
    if offered is None or "*" in (offered.type, offered.subtype):
        raise wrong(ValueError, "each of media_types", "a media type, such as 'application/json'", media_type)
    ranges = [each for each in map(_read_range, _split(accept, ",")) if each is not None]
    if not ranges:
        return 1.0
    return max((each.precedence() for each in ranges if each.matches(offered)), default=(0.0,))[-1]


def read_weight(text: str) -> float | None:
    """Return the value of a ``q`` parameter, from 0 to 1; ``None`` if it is malformed (RFC 9110, section 12.4.2).

    More digits than the RFC's three, a missing digit before or after the point, and more than 1, which counts as 1, are
    accepted: clients send them. For ``Accept`` and for ``Accept-Encoding``.
    """
    return min(float(text), 1.0) if _WEIGHT.fullmatch(text) else None


def _read_range(text: str) -> _Range | None:
    # None if it is malformed, or empty, as elements of a list may be (RFC 9110, section 5.6.1.2).
    media, *others = _split(text, ";")
    kind, _, subtype = media.strip(_BLANK).lower().partition("/")
    if kind == "*" and not subtype:
        subtype = "*"  # Java's HTTP client sends `*` too
    if not _TOKEN.fullmatch(kind) or not _TOKEN.fullmatch(subtype) or (kind == "*" != subtype):
        return None
    parameters = dict(_read_parameters(others))
    weight = read_weight(parameters.pop("q", "1"))
    if weight is None:
        return None
    if parameters.get("charset", "").lower() in ("utf-8", "utf8"):
        del parameters["charset"]
    return _Range(kind, subtype, frozenset(parameters.items()), weight)


def _read_parameters(parts: list[str]) -> Iterator[tuple[str, str]]:
    for part in parts:
        name, equals, value = part.strip(_BLANK).partition("=")
        if equals:
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = _ESCAPED.sub(r"\1", value[1:-1])
            yield name.lower(), value


def _split(text: str, separator: str) -> list[str]:
    # Ignores separators in quotes. After a quote that is never closed, the remainder is one part.
    if '"' not in text:
        return text.split(separator)
    parts: list[str] = []
    begin, quoted, escaped = 0, False, False
    for at, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[begin:at])
            begin = at + 1
    return [*parts, text[begin:]]
