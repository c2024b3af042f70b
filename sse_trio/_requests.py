# What a client would rather have: the Accept header of a request (RFC 9110, section 12.5.1), for endpoints that have
# more to offer than an event stream.
#
# Rule 1: a media type has the quality of the most specific range that it matches; where ranges are alike, the highest.
#         Where two types have the same quality, the server's order decides, for the client has none.
# Rule 2: what is malformed counts for nothing, and the rest of the header counts. No header raises, and each is read in
#         a time that is linear in its length. One in which nothing counts is as none: the client takes anything.
# Rule 3: everything that is sent here is UTF-8, so a range that asks for that asks for nothing more.

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

from ._arguments.checks import shown, wrong
from ._arguments.http import headers_of

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

__all__ = ("accepts_event_stream", "preferred_media_type", "quality_of", "read_weight")

EVENT_STREAM = "text/event-stream"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_WEIGHT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}")  # `.2` is what Java's own HTTP client has always sent
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
    """Return whether the client takes an event stream, as its ``Accept`` has it (RFC 9110, section 12.5.1).

    True without that header, and for ``*/*``: for an endpoint that has nothing else to offer, and answers 406 where
    this is false. One that has something else asks :func:`preferred_media_type`.
    """
    return preferred_media_type(connection, EVENT_STREAM) is not None


def preferred_media_type(connection: HTTPConnection, *media_types: str) -> str | None:
    """Return which of these the client would rather have, as its ``Accept`` has it (RFC 9110, section 12.5.1).

    Args:
        connection: the request.
        media_types: what there is to offer, what is rather given first: that is the answer where the client doesn't
            care, as with ``*/*``, or with no ``Accept`` at all.

    Returns:
        One of them; ``None`` if the client takes none, for which the answer is 406. Either way the answer depends on
        that header: say so to caches, by ``Vary: Accept``.

    Raises:
        TypeError: one of them is no ``str``; a list of them, say.
        ValueError: there is nothing to offer, or one of them is no media type. The caller's fault; no header raises.
    """
    if not media_types:
        msg = "there is nothing to choose from; give media types, such as 'application/json', 'text/event-stream'"
        raise ValueError(msg)
    for media_type in media_types:
        if not isinstance(cast("object", media_type), str):
            wanted = "one str for each, such as 'application/json'; of a list give each one: *media_types"
            raise wrong(TypeError, "media_types", wanted, media_type)
    accept = ", ".join(headers_of(connection).getlist("accept"))
    qualities = [quality_of(accept, media_type) for media_type in media_types]
    best = max(qualities)
    return media_types[qualities.index(best)] if best > 0 else None


def quality_of(accept: str, media_type: str) -> float:
    """Return the quality of a media type for a client that has sent this header, from 0 (not acceptable) to 1.

    Raises:
        ValueError: that is no media type.
    """
    offered = _read_range(media_type)
    if offered is None or "*" in (offered.type, offered.subtype):
        msg = f"{shown(media_type)} is no media type; one is, for example, 'application/json'"
        raise ValueError(msg)
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
    # None: it is malformed, or empty, which an element of a list may be (RFC 9110, section 5.6.1.2).
    media, *rest = _split(text, ";")
    kind, _, subtype = media.strip(_BLANK).lower().partition("/")
    if kind == "*" and not subtype:
        subtype = "*"  # `*` is Java's, too
    if not _TOKEN.fullmatch(kind) or not _TOKEN.fullmatch(subtype) or (kind == "*" != subtype):
        return None
    parameters = dict(_read_parameters(rest))
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
    # Not in quotes. What a quote opens that is never closed is one part to the end.
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
