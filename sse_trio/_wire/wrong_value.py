# What was given in place of an event, its data or a field of it, and what to write for just that.
#
# Rule: the advice is what works next. `ServerSentEvent.json()` is advised only for what it may be able to write.

from __future__ import annotations

import enum
import inspect
from typing import cast

from .._arguments.type_name import type_name
from .json import is_model

__all__ = ("instead_of_event", "instead_of_text", "is_event", "is_json")

_AS_JSON = "to send an object as JSON write ServerSentEvent.json(value)"


def is_json(value: object) -> bool:
    """Return whether the value can be meant as JSON only. A list of events is meant as several events."""
    if isinstance(value, (list, tuple)):
        return not any(is_event(member) for member in cast("list[object]", value))
    return is_model(value) and not is_event(value)


def is_event(value: object) -> bool:
    """Return whether it is an event, also one of another library's: a pydantic model (FastAPI's) or a dataclass."""
    return type(value).__name__.endswith("ServerSentEvent")


def instead_of_event(value: object) -> str:
    """Return what was given in place of an event or of its data, and what to write. A coroutine is closed."""
    kind = type(value)
    if inspect.iscoroutine(value):
        value.close()
        return "a coroutine; write `await` before the call that made it"
    if issubclass(kind, (list, tuple)) and not is_json(value):
        return f"a {kind.__name__} of events; send each of them: for event in events: await send_channel.send(event)"
    if is_event(value):
        return (
            f"the {kind.__name__} of {kind.__module__}; write `from sse_trio import ServerSentEvent`, then "
            "ServerSentEvent(text), or ServerSentEvent.json(value) where the data is JSON"
        )
    return f"{type_name(value)}; {_what_to_write(value)}"


def _what_to_write(value: object) -> str:
    if value is None:
        return "leave the event out, or write ServerSentEvent.json(None) to send `null`"
    if isinstance(value, bytes):
        return "to send UTF-8 text write ServerSentEvent(value)"
    if isinstance(value, (bytearray, memoryview)):
        return "to send UTF-8 text write ServerSentEvent(bytes(value))"
    if isinstance(value, enum.Enum):
        return f"write {_member(value)}.value to send its value"
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return "write value.tolist(), which returns Python's own numbers and lists"
    return _AS_JSON


def instead_of_text(name: str, value: object) -> str:
    """Return what was given in place of a field's text, and what to write."""
    text = f"{_member(value)}.value" if isinstance(value, enum.Enum) else "str(...)"
    return f"{type_name(value)}; write {name}={text}"


def _member(value: enum.Enum) -> str:
    return f"{type(value).__name__}.{value.name}"
