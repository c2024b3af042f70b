# Typed events: the events of a stream, what they carry, and their OpenAPI documentation.
#
#   event_type.py        EventType: one event's name and payload
#   event_types.py       EventTypes: all events of a stream
#   payload.py           how a payload becomes JSON: pydantic, msgspec, dataclasses
#   openapi.py           the schema

from __future__ import annotations

__all__ = ()
