# The body of a request to publish: JSON or a form, to pairs of a topic and an event, each with its ttl. No I/O.
#
# Rule 1: the body comes from outside. Whatever it is, the answer is events or a ValueError that says what is wrong.
# Rule 2: the number of ids in the answer follows from the body: a list of events gets a list of ids, also of one.

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple, cast
from urllib.parse import parse_qsl

from .._arguments.checks import shown
from .._wire.event import ServerSentEvent
from ..stores._expiry import check_ttl
from ..stores._topics import check_topic

__all__ = ("FORM", "JSON", "Body", "parse_body")

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

_FIELDS = ("data", "event", "retry", "topic", "ttl")
_MOST_FIELDS = 50_000  # of a form: of 10,000 events
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)


class Body(NamedTuple):
    """What is to be published."""

    events: list[tuple[str, ServerSentEvent]]
    ttls: list[float | None]
    """Of each event: the seconds until it expires, or None."""
    is_list: bool
    """Whether the answer is a list of ids."""


def parse_body(media_type: str, body: bytes) -> Body:
    """Return what a body of this media type, which is JSON or FORM, asks for. ValueError if it makes no sense."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise ValueError("the body must be UTF-8") from None
    fields = _read_json(text) if media_type == JSON else _read_form(text)
    each = cast("list[object]", fields) if isinstance(fields, list) else [fields]
    if not each:
        raise ValueError("the body must have one event or more; got an empty list")
    named = [_checked(one) for one in each]
    return Body([_event(one) for one in named], [_ttl(one) for one in named], isinstance(fields, list))


def _read_json(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as exc:
        raise ValueError(f"the body must be JSON: {exc}") from None


def _too_deep() -> ValueError:
    return ValueError("the body must not be nested as deeply")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read_form(text: str) -> object:
    # Each `topic` begins an event, as in topic=a&data=1&topic=b&data=2.
    events: list[dict[str, object]] = []
    for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS):
        if name == "topic":
            events.append({})
        if not events:
            raise ValueError(f"a form must begin with a topic; got {shown(name)}")
        if name in events[-1]:
            raise ValueError(f"an event must have one {shown(name)}; begin the next one with its topic")
        events[-1][name] = _number_or_text(name, value)
    if not events:
        raise ValueError("a form must have a topic")
    return events[0] if len(events) == 1 else events


def _number_or_text(name: str, value: str) -> object:
    # What is not a number stays a text, which the check of the field refuses.
    if name == "retry" and _is_number(value):
        return int(value)
    return float(value) if name == "ttl" and _SECONDS.fullmatch(value) else value


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


def _checked(fields: object) -> Mapping[str, object]:
    if not isinstance(fields, Mapping):
        raise ValueError(  # noqa: TRY004 -- a client's mistake
            f'an event must be an object such as {{"topic": "news", "data": "hello"}}; got {shown(fields)}'
        )
    named = cast("Mapping[str, object]", fields)
    unknown = [name for name in named if name not in _FIELDS]
    if unknown:
        raise ValueError(f"the fields of an event are {', '.join(_FIELDS)}; got {shown(unknown[0])}")
    if "topic" not in named or "data" not in named:
        raise ValueError("an event must have a topic and data")
    return named


def _ttl(fields: Mapping[str, object]) -> float | None:
    ttl = cast("float | None", fields.get("ttl"))
    try:
        return None if ttl is None else check_ttl(ttl)
    except TypeError as exc:
        raise ValueError(str(exc)) from None


def _event(fields: Mapping[str, object]) -> tuple[str, ServerSentEvent]:
    try:
        topic = check_topic(cast("str", fields["topic"]))  # before a user's function is asked about it
        return topic, _server_sent_event(fields)
    except TypeError as exc:
        raise ValueError(str(exc)) from None
    except RecursionError:  # data that could just be read may be too deep to be written
        raise _too_deep() from None


def _server_sent_event(fields: Mapping[str, object]) -> ServerSentEvent:
    event, retry, data = (
        cast("str | None", fields.get("event")),
        cast("int | None", fields.get("retry")),
        fields["data"],
    )
    if isinstance(data, str):
        return ServerSentEvent(data, event=event, retry=retry)
    return ServerSentEvent.json(data, event=event, retry=retry)
