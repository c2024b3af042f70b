# The body of a request to publish: JSON or a form, to pairs of a topic and an event. No I/O.
#
# Rule 1: the body comes from outside. Whatever it is, the answer is events or a ValueError that says what is wrong.
# Rule 2: the number of ids in the answer follows from the body: a list of events gets a list of ids, also of one.

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple, cast
from urllib.parse import parse_qsl

from .._arguments.checks import shown
from .._wire.event import ServerSentEvent

__all__ = ("FORM", "JSON", "Body", "parse_body")

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

_FIELDS = ("data", "event", "retry", "topic")
_MOST_FIELDS = 40_000  # of a form: of 10,000 events


class Body(NamedTuple):
    """What is to be published."""

    events: list[tuple[str, ServerSentEvent]]
    is_list: bool
    """Whether the answer is a list of ids."""


def parse_body(media_type: str, body: bytes) -> Body:
    """Return what a body of this media type, which is JSON or FORM, asks for. ValueError if it makes no sense."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise ValueError("the body must be UTF-8") from None
    fields = _read_json(text) if media_type == JSON else _read_form(text)
    if not isinstance(fields, list):
        return Body([_event(fields)], is_list=False)
    events = [_event(each) for each in cast("list[object]", fields)]
    if not events:
        raise ValueError("the body must have one event or more; got an empty list")
    return Body(events, is_list=True)


def _read_json(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("the body must not be nested as deeply") from None
    except ValueError as exc:
        raise ValueError(f"the body must be JSON: {exc}") from None


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
        events[-1][name] = int(value) if name == "retry" and _is_number(value) else value
    if not events:
        raise ValueError("a form must have a topic")
    return events[0] if len(events) == 1 else events


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


def _event(fields: object) -> tuple[str, ServerSentEvent]:
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
    return cast("str", named["topic"]), _server_sent_event(named)


def _server_sent_event(fields: Mapping[str, object]) -> ServerSentEvent:
    event, retry, data = (
        cast("str | None", fields.get("event")),
        cast("int | None", fields.get("retry")),
        fields["data"],
    )
    try:
        if isinstance(data, str):
            return ServerSentEvent(data, event=event, retry=retry)
        return ServerSentEvent.json(data, event=event, retry=retry)
    except TypeError as exc:
        raise ValueError(str(exc)) from None
