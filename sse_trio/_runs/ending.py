# How a run ends: its states, the mark that is stored as its last event, and what of it clients are sent.
#
# Rule 1: the mark is one stored event, with an id, so that a client that has seen it can say so. Its payload begins
#         with a line that no event of a producer begins with; clients take it for a comment.
# Rule 2: what follows in the payload is the user's: `on_end` decides it, once, where the mark is written. If it fails,
#         that is logged, and clients are sent the default.

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias, final

from .._wire.event import ServerSentEvent
from .._wire.returned import returned_event
from ..stores._protocol import StoredEvent, pack_event

__all__ = ("OnEnd", "RunEnd", "RunReason", "RunState", "end_mark", "is_end")

RunState: TypeAlias = Literal["running", "completed", "failed", "stopped", "interrupted"]
RunReason: TypeAlias = Literal[
    "stop", "unwatched", "max_duration", "max_events", "max_bytes", "exception", "shutdown", "lease"
]

_MARK = b":end "
_logger = logging.getLogger("sse_trio")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run has ended, for ``on_end``."""

    key: str
    state: RunState
    """``completed``: the producer returned. ``failed``: it raised, or sent more than the run may keep. ``stopped``: by
    ``stop()``, or by an option. ``interrupted``: the process that ran it shut down, or is gone."""
    reason: RunReason | None = None
    """What ended it, for every state but ``completed``."""
    exception: Exception | None = None
    """What the producer raised. Don't send it to clients as it is: it may tell what is none of their business."""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


OnEnd: TypeAlias = Callable[[RunEnd], ServerSentEvent | None]


def default_on_end(end: RunEnd) -> ServerSentEvent:
    """Return ``event: end`` with the state as JSON."""
    return ServerSentEvent.json({"state": end.state}, event="end")


def end_mark(end: RunEnd, on_end: OnEnd | None) -> bytes:
    """Return the payload of the mark of this end."""
    return _MARK + end.state.encode() + b"\n" + _payload(end, on_end)


def _payload(end: RunEnd, on_end: OnEnd | None) -> bytes:
    try:
        event = default_on_end(end) if on_end is None else on_end(end)
        return b"\n" if event is None else pack_event(returned_event("on_end", event))
    except Exception:
        _logger.exception("on_end failed for the run %r; clients are sent the default", end.key)
        return pack_event(default_on_end(end))


def is_end(event: StoredEvent) -> bool:
    """Whether this stored event is the mark of an end."""
    return event.payload.startswith(_MARK)
