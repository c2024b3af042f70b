# View: what one page is sent: the figures, the rows at the top of each table, and then the changes.
#
# Rule 1: a table has a fixed number of rows, chosen and ordered here. The page sorts nothing.
# Rule 2: a row is sent in full once. After that only the changed fields are sent, and the order if it has changed.
# Rule 3: values that change with time alone are left to the page: a row has the time at which its stream opened, by the
#         loop's clock, and not its age.

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from typing import Any, Final, TypeAlias

from .._groups.statistics import STALL_SECONDS, StreamStatistics
from .._hubs.feed import FeedStatistics
from .._hubs.hub import HubStatistics
from .._runs.record import RunStatus
from .._wire.event import ServerSentEvent
from .._wire.visible import shortened, visible
from ._sampler import ClosedStream, Figures, HubFigures, Sample

__all__ = ("MAX_ROWS", "SORTS", "Selection", "Table", "View", "history_event")

MAX_ROWS = 200
FEED_ROWS = 25
RUN_ROWS = 50
MAX_TEXT = 200
"""Characters shown of a path, a topic or a label."""
MAX_TOPICS = 50
"""Topics shown of one subscription."""

Row: TypeAlias = dict[str, object]

SORTS: Final[Mapping[str, Callable[[StreamStatistics], Any]]] = {
    "trouble": lambda stream: (
        _stalled_for(stream) or 0,
        _magnitude(stream.lag or 0),
        _magnitude(stream.buffered_events),
        stream.dropped,
    ),
    "age": lambda stream: stream.age,
    "path": lambda stream: stream.path,
    "events": lambda stream: stream.written_events,
    "bytes": lambda stream: stream.written_bytes,
    "buffered": lambda stream: stream.buffered_bytes,
    "lag": lambda stream: -1 if stream.lag is None else stream.lag,
    "dropped": lambda stream: stream.dropped,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which streams are shown, in which order, and how many of them."""

    sort: str = "trouble"
    ascending: bool = False
    rows: int = 50
    text: str = ""
    """Text that must be in the path, a topic or a ``label=value``, in upper or lower case."""

    def choose(self, streams: Iterable[StreamStatistics]) -> tuple[int, list[StreamStatistics]]:
        """Return the number of matching streams, and those at the top. Among equals, the older stream comes first."""
        text = self.text.casefold()
        matching = [stream for stream in streams if not text or text in _searchable(stream)]
        key, sign = SORTS[self.sort], 1 if self.ascending else -1
        choose = nsmallest if self.ascending else nlargest
        return len(matching), choose(self.rows, matching, key=lambda stream: (key(stream), sign * stream.number))


class Table:
    """The rows that a page has of one table."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._order: list[str] | None = None

    def changes(self, rows: dict[str, Row]) -> dict[str, object]:
        """Return the changes that give the page these rows in this order; empty if it has them."""
        changes: dict[str, object] = {}
        changed = {key: fields for key, row in rows.items() if (fields := _changed(self._rows.get(key), row))}
        order = [*rows]
        if changed:
            changes["rows"] = changed
        if order != self._order:
            changes["order"] = order
        self._rows, self._order = rows, order
        return changes


class View:
    """Makes the events for one page, sample by sample."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._streams = Table()
        self._feeds = Table()
        self._runs = Table()
        self._matching: int | None = None
        self._closed_seen = 0

    def events(
        self,
        sample: Sample,
        hub: HubFigures | None,
        runs: list[RunStatus] | None,
        closed: Iterable[ClosedStream],
    ) -> Iterator[ServerSentEvent]:
        """Yield the events about what has changed."""
        yield ServerSentEvent.json(_totals(sample, hub, runs), event="totals")
        matching, chosen = self._selection.choose(sample.streams)
        changes = self._streams.changes({str(stream.number): _stream_row(stream, sample.now) for stream in chosen})
        if matching != self._matching:
            changes["matching"] = self._matching = matching
        if changes:
            yield ServerSentEvent.json(changes, event="streams")
        if hub is not None:
            feeds = nlargest(FEED_ROWS, hub.feeds, key=lambda feed: (feed.subscribers, feed.events))
            changes = self._feeds.changes({repr(feed.topics): _feed_row(feed) for feed in feeds})
            if changes:
                yield ServerSentEvent.json(changes, event="feeds")
        if runs is not None:
            changes = self._runs.changes({run.key: _run_row(run) for run in runs[:RUN_ROWS]})
            if changes:
                yield ServerSentEvent.json(changes, event="runs")
        unseen = [each for each in closed if each.position > self._closed_seen]
        if unseen:
            self._closed_seen = unseen[-1].position
            yield ServerSentEvent.json([_closed_row(each) for each in unseen], event="closed")


def history_event(history: Iterable[Figures]) -> ServerSentEvent:
    """Return an event with all points of the plots so far, in columns."""
    columns = [*zip(*history, strict=True)] or [()] * len(Figures._fields)
    return ServerSentEvent.json([[_rounded(value) for value in column] for column in columns], event="history")


def _rounded(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else round(value, 3)


def _changed(before: Row | None, row: Row) -> Row:
    return row if before is None else {name: value for name, value in row.items() if before[name] != value}


def _searchable(stream: StreamStatistics) -> str:
    labels = [f"{name}={value}" for name, value in stream.labels.items()]
    return "\n".join([stream.path, *stream.topics, *labels]).casefold()


def _magnitude(events: int) -> int:
    # Every stream has a few events between two of its writes. If they counted, the order would change every second.
    return events.bit_length() if events >= 16 else 0


def _stalled_for(stream: StreamStatistics) -> int | None:
    seconds = stream.writing_for
    return None if seconds is None or seconds < STALL_SECONDS else int(seconds)


def _stream_row(stream: StreamStatistics, now: float) -> Row:
    return {
        "path": _text(stream.path),
        "labels": _labels(stream.labels),
        "topics": [_text(topic) for topic in stream.topics[:MAX_TOPICS]],
        "opened": round(now - stream.age, 1),
        "events": stream.written_events,
        "bytes": stream.written_bytes,
        "bufferedEvents": stream.buffered_events,
        "bufferedBytes": stream.buffered_bytes,
        "lag": stream.lag,
        "dropped": stream.dropped,
        "stalled": _stalled_for(stream),
        "reason": None if stream.close_reason is None else stream.close_reason.value,
    }


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    return {_text(str(name)): _text(str(value)) for name, value in labels.items()}


def _text(text: str) -> str:
    # Clients choose paths, and much of what is in labels and topics.
    return visible(shortened(text, MAX_TEXT))


def _feed_row(feed: FeedStatistics) -> Row:
    return {
        "topics": [_text(topic) for topic in feed.topics[:MAX_TOPICS]],
        "subscribers": feed.subscribers,
        "events": feed.events,
        "ringEvents": feed.ring_events,
        "ringBytes": feed.ring_bytes,
        "lag": feed.lag,
    }


def _run_row(run: RunStatus) -> Row:
    return {
        "key": _text(run.key),
        "labels": _labels(run.labels),
        "started": round(run.started_at, 1),
        "events": run.events,
        "watchers": run.watchers,
    }


def _closed_row(closed: ClosedStream) -> Row:
    stream = closed.stream
    return {
        "number": stream.number,
        "at": round(closed.at, 1),
        "path": _text(stream.path),
        "labels": _labels(stream.labels),
        "reason": None if stream.close_reason is None else stream.close_reason.value,
        "age": round(stream.age, 1),
        "events": stream.written_events,
        "bytes": stream.written_bytes,
    }


def _totals(sample: Sample, hub: HubFigures | None, runs: list[RunStatus] | None) -> Row:
    group = sample.group
    return {
        "now": round(sample.now, 3),
        "figures": [_rounded(value) for value in sample.figures],
        "opened": group.opened,
        "closed": {reason.value: count for reason, count in group.closed.items()},
        "refused": {reason.value: count for reason, count in group.refused.items()},
        "events": group.written_events,
        "bytes": group.written_bytes,
        "dropped": group.dropped,
        "stalls": group.stalls,
        "stalled": group.stalled,
        "shutdown": group.shutdown_requested,
        "hub": None if hub is None else _hub_figures(hub.hub),
        "runs": None if runs is None else len(runs),
    }


def _hub_figures(hub: HubStatistics) -> Row:
    return {
        "subscribers": hub.subscribers,
        "feeds": hub.feeds,
        "published": hub.published,
        "delivered": hub.delivered,
        "lag": hub.lag,
        "dropped": hub.dropped,
        "resumes": hub.resumes,
        "gaps": hub.gaps,
    }
