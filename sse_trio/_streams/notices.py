# What the library itself says in a stream: its first words, its pings, and its last.
#
# Rule: what functions of the user's raise, these raise.

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

__all__ = ("first_words", "last_words", "ping")

PINGS = MappingProxyType({sep: f": ping{sep}{sep}".encode() for sep in LINE_ENDS})
RETRY = 3000
"""Milliseconds; what EventSource does by default, said where a group has said something else before."""


def first_words(options: StreamOptions, group: GroupState) -> bytes:
    """Return what comes before the first event."""
    retry = options.retry
    if retry is None and group.reconnect_within is not None:
        retry = RETRY
    return b"" if retry is None else ServerSentEvent(retry=retry).encode(options.sep)


def ping(options: StreamOptions) -> bytes:
    """Return what is sent after a silence."""
    if options.ping_message_factory is None:
        return PINGS[options.sep]
    return returned_event("ping_message_factory", options.ping_message_factory()).encode(options.sep)


def last_words(
    options: StreamOptions, group: GroupState, reason: CloseReason | None, error: BaseException | None
) -> bytes:
    """Return what comes after the last event of a stream that ends for this reason, with this error of a producer's."""
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
