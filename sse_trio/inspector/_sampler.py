# Sampler: reads what the inspector shows, once a second for all open pages.
#
# Rule 1: it has no task. The first page that asks in a second reads; the others wait for it and get the same sample.
# Rule 2: while it reads, other tasks have their turn after every READ_AT_ONCE streams: five thousand take 30 ms.
# Rule 3: its memory is bounded: some minutes of figures for the plots, some streams that have ended.

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import NamedTuple

from anyio import Event, current_time
from anyio.lowlevel import checkpoint

from .._groups.group import StreamGroup, StreamGroupStatistics, run_of
from .._groups.run import GroupRun
from .._groups.statistics import StreamStatistics
from .._hubs.feed import FeedStatistics
from .._hubs.hub import Hub, HubStatistics
from .._runs.record import RunStatus
from .._runs.runs import Runs
from .._wire.visible import shortened

__all__ = ("INTERVAL", "ClosedStream", "Figures", "HubFigures", "Sample", "Sampler")

INTERVAL = 1.0
"""Seconds."""
HISTORY = 600
"""Number of samples kept for the plots."""
CLOSED = 50
"""Number of ended streams that are kept."""
READ_AT_ONCE = 250
"""Number of streams that take a millisecond and a half."""
TEXT = 300
"""Characters of a path that are kept. The client chooses it, and servers accept long ones."""


class Figures(NamedTuple):
    """A point of each plot. The rates are those since the previous sample, or None if that is too long ago."""

    at: float
    """Seconds since the epoch."""
    open_streams: int
    events: float | None
    """Events written per second."""
    bytes: float | None
    """Bytes written per second."""


class ClosedStream(NamedTuple):
    """A stream that has ended."""

    position: int
    """Counts up. A page that has seen one has seen all before it."""
    at: float
    """Seconds since the epoch."""
    stream: StreamStatistics


class HubFigures(NamedTuple):
    """The figures of a hub."""

    hub: HubStatistics
    feeds: list[FeedStatistics]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was read in one second: the group, and the hubs of the open pages."""

    second: int
    now: float
    """The time of the loop's clock, as for the streams' ages."""
    figures: Figures
    group: StreamGroupStatistics
    streams: list[StreamStatistics]
    hubs: dict[Hub, HubFigures]
    """Filled by :meth:`Sampler.read_hub`. Each page sees only its own hub, never that of another tenant."""
    runs: dict[Runs, list[RunStatus]]
    """The same, by :meth:`Sampler.read_runs`."""


class Sampler:
    """Reads a group and hubs. It is an observer of the group."""

    def __init__(self, group: StreamGroup) -> None:
        self.history: deque[Figures] = deque(maxlen=HISTORY)
        self.closed: deque[ClosedStream] = deque(maxlen=CLOSED)
        self._group = group
        self._closed_count = 0
        self._run: GroupRun | None = None
        self._latest: Sample | None = None
        self._reading: Event | None = None
        group.add_observer(self)

    def stream_closed(self, stream: StreamStatistics, /) -> None:
        """Keep the last snapshot of a stream that has ended."""
        stream = replace(stream, path=shortened(stream.path, TEXT))
        self._closed_count += 1
        self.closed.append(ClosedStream(self._closed_count, time.time(), stream))

    async def read(self) -> Sample:
        """Return the sample of this second. If this is cancelled, another page that waits reads it."""
        self._forget_earlier_loop()
        while (latest := self._latest) is None or latest.second < _this_second():
            if self._reading is not None:
                await self._reading.wait()
                continue
            self._reading = Event()
            try:
                self._latest = await self._read(latest)
                self.history.append(self._latest.figures)
            finally:
                self._reading.set()
                self._reading = None
        return latest

    def read_hub(self, sample: Sample, hub: Hub | None) -> HubFigures | None:
        """Return the figures of this hub in the sample's second, read once for all pages that show it."""
        if hub is None:
            return None
        if hub not in sample.hubs:
            sample.hubs[hub] = HubFigures(hub.statistics(), hub.feeds())
        return sample.hubs[hub]

    def read_runs(self, sample: Sample, runs: Runs | None) -> list[RunStatus] | None:
        """Return these runs in the sample's second, read once for all pages that show them."""
        if runs is None:
            return None
        if runs not in sample.runs:
            sample.runs[runs] = runs.running()
        return sample.runs[runs]

    def _forget_earlier_loop(self) -> None:
        run = run_of(self._group)
        if run is not self._run:
            self._run, self._latest, self._reading = run, None, None

    async def _read(self, before: Sample | None) -> Sample:
        second, now = _this_second(), current_time()
        group = self._group.statistics()
        return Sample(
            second=second,
            now=now,
            group=group,
            figures=_figures(group, now, before),
            hubs={},
            runs={},
            streams=await self._read_streams(),
        )

    async def _read_streams(self) -> list[StreamStatistics]:
        run = run_of(self._group)
        members = [*run.streams]
        statistics: list[StreamStatistics] = []
        for begin in range(0, len(members), READ_AT_ONCE):
            now = current_time()
            statistics += [member.statistics(now) for member in members[begin : begin + READ_AT_ONCE]]
            await checkpoint()
        return statistics


def _this_second() -> int:
    return math.floor(current_time() / INTERVAL)


def _figures(group: StreamGroupStatistics, now: float, before: Sample | None) -> Figures:
    if before is None or now - before.now > 2.5 * INTERVAL:
        return Figures(time.time(), group.open_streams, None, None)
    seconds = max(now - before.now, INTERVAL / 10)
    return Figures(
        time.time(),
        group.open_streams,
        (group.written_events - before.group.written_events) / seconds,
        (group.written_bytes - before.group.written_bytes) / seconds,
    )
