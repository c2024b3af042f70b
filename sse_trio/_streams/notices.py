# Notices: what the library itself writes into a stream: `retry` at its opening, pings, the farewell at its closing.
#
# Rule 1: an exception of the user's functions is raised here, and the stream handles it.
# Rule 2: no client takes a notice for a message: the default ping and `retry` have no blank line (_wire/event.py).

from __future__ import annotations

from collections.abc import Iterator
from random import randrange
from types import MappingProxyType
from typing import TYPE_CHECKING

from .._reasons import ENDINGS, CloseReason
from .._wire.event import LINE_ENDS, ServerSentEvent
from .._wire.returned import returned_event

if TYPE_CHECKING:
    from .._groups.run import GroupState
    from .options import StreamOptions

__all__ = ("closing_notices", "opening_notices", "ping")

PINGS = MappingProxyType({sep: ServerSentEvent(comment="ping").encode(sep) for sep in LINE_ENDS})
RETRY = 3000
"""Milliseconds: the default of EventSource. Sent in groups that sent a different `retry` at a shutdown."""


def opening_notices(options: StreamOptions, group: GroupState) -> bytes:
    """Return what is written before the first event."""
    retry = options.retry
    if retry is None and group.reconnect_within is not None:
        retry = RETRY
    return b"" if retry is None else ServerSentEvent(retry=retry).encode(options.sep)


def ping(options: StreamOptions) -> bytes:
    """Return what is written after a silence."""
    if options.ping_message_factory is None:
        return PINGS[options.sep]
    return returned_event("ping_message_factory", options.ping_message_factory()).encode(options.sep)


def closing_notices(
    options: StreamOptions, group: GroupState, reason: CloseReason | None, error: BaseException | None
) -> bytes:
    """Return what is written after the last event. `error` is the exception of a producer, if one failed."""
    return b"".join([event.encode(options.sep) for event in _last_events(options, group, reason, error)])


def _last_events(
    options: StreamOptions, group: GroupState, reason: CloseReason | None, error: BaseException | None
) -> Iterator[ServerSentEvent]:
    if isinstance(error, Exception) and options.on_error is not None:
        event = options.on_error(error)
        if event is not None:
            yield returned_event("on_error", event)
    if reason is CloseReason.SHUTDOWN and group.reconnect_within is not None:
        yield ServerSentEvent(retry=randrange(round(group.reconnect_within * 1000) + 1))  # noqa: S311
    if reason is not None and ENDINGS[reason].farewell:
        farewell = options.farewell or group.farewell
        event = farewell(reason) if callable(farewell) else farewell
        if event is not None:
            yield returned_event("farewell", event)
