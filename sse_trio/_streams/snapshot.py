# What there is to see of one open stream: the snapshot that its group, observers and the inspector get.

from __future__ import annotations

from typing import TYPE_CHECKING

from .._groups.statistics import StreamStatistics

if TYPE_CHECKING:
    from .teardown import Teardown

__all__ = ("snapshot",)


def snapshot(stream: Teardown, *, number: int, path: str, opened_at: float, now: float) -> StreamStatistics:
    """Return a snapshot. Times are those of the loop's clock."""
    outlet, source = stream.writer.outlet, stream.source
    backlog = source.backlog()
    began, first = outlet.write_began, outlet.first_event_at
    return StreamStatistics(
        number=number,
        path=path,
        labels=stream.options.labels,
        topics=backlog.topics,
        age=now - opened_at,
        first_event_after=None if first is None else first - opened_at,
        written_events=source.received,
        written_bytes=outlet.written_bytes,
        buffered_events=backlog.events,
        buffered_bytes=backlog.bytes,
        lag=backlog.lag,
        dropped=source.dropped,
        writing_for=None if began is None else now - began,
        stalls=outlet.stalls + outlet.is_stalled(),
        close_reason=stream.reason,
    )
