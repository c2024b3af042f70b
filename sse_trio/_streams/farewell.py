# The farewell, and whatever else the library itself writes after the last event: the closing notices.
#
# Rule 1: an exception of the user's functions is raised here, and the stream handles it (drain.py).
# Rule 2: `ENDINGS` (_reasons.py) says for which reasons there is a farewell. The response's own comes before the
#         group's.

from __future__ import annotations

from collections.abc import Iterator
from random import randrange
from typing import TYPE_CHECKING

from .._reasons import ENDINGS, CloseReason
from .._wire.event import ServerSentEvent
from .._wire.returned import returned_event

if TYPE_CHECKING:
    from .._groups.run import GroupState
    from .options import StreamOptions

__all__ = ("closing_notices",)


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
