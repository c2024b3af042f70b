# Metrics of groups, hubs and runs for Prometheus. Needs prometheus-client, the extra `metrics`.
#
# Rule 1: nothing is counted here that a group, a hub or runs count themselves. A scrape asks them for a snapshot.
#         Between two scrapes this costs nothing, however many events there are.
# Rule 2: distributions are the exception: the time to the first event, and how long streams lived. Each stream is
#         observed once, when it has ended.
# Rule 3: labels are the names of groups and hubs, and the reasons for an ending, so there are few of them. Topics,
#         paths and users are not labels: there would be as many time series as users. `StreamGroup.streams()` has them.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import cast, final

from prometheus_client import Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from ._arguments.checks import check_instance, members_of, wrong
from ._groups.group import StreamGroup
from ._groups.statistics import StreamStatistics
from ._hubs.hub import Hub
from ._reasons import CloseReason, RefusalReason
from ._runs.runs import Runs

__all__ = ("EventStreamCollector",)

FIRST_EVENT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
DURATION_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0)


@final
class EventStreamCollector:
    """A collector for a registry of prometheus-client.

    ::

        group = StreamGroup(name="app")
        collector = EventStreamCollector(group)
        REGISTRY.register(collector)

        async with open_hub() as hub:
            collector.add_hub(hub)

    A scrape may come from any thread. It reads every open stream and every subscriber once, in about a microsecond
    each.

    Args:
        groups: the groups to collect from. Each must have a different ``name``, which is its label.
        first_event_buckets: seconds, for the histogram of the time from a stream's opening to its first event.
        duration_buckets: seconds, for the histogram of how long streams were open.

    Raises:
        TypeError, ValueError: an argument is invalid, or two groups have the same name.
    """

    def __init__(
        self,
        *groups: StreamGroup,
        first_event_buckets: Sequence[float] = FIRST_EVENT_BUCKETS,
        duration_buckets: Sequence[float] = DURATION_BUCKETS,
    ) -> None:
        _check_buckets("first_event_buckets", first_event_buckets)
        _check_buckets("duration_buckets", duration_buckets)
        self._groups: tuple[StreamGroup, ...] = ()
        self._hubs: tuple[Hub, ...] = ()
        self._runs: tuple[Runs, ...] = ()
        self._first_event = Histogram(
            "sse_trio_first_event_seconds",
            "Time from a stream's opening to its first event.",
            ["group"],
            registry=None,
            buckets=first_event_buckets,
        )
        self._duration = Histogram(
            "sse_trio_stream_duration_seconds",
            "How long streams that have ended were open.",
            ["group"],
            registry=None,
            buckets=duration_buckets,
        )
        for group in groups:
            self.add_group(group)

    def __repr__(self) -> str:
        names = [each.name for each in self._groups]
        names += [each.name for each in self._hubs]
        names += [each.name for each in self._runs]
        return f"<EventStreamCollector of {', '.join(map(repr, names)) or 'nothing'}>"

    def add_group(self, group: StreamGroup) -> None:
        """Also collect from this group. Raise ValueError if there is a group with this name."""
        check_instance("group", group, StreamGroup, "a StreamGroup")
        _check_name("group", group.name, [each.name for each in self._groups])
        self._groups += (group,)
        group.add_observer(_Times(self._first_event.labels(group.name), self._duration.labels(group.name)))

    def add_hub(self, hub: Hub) -> None:
        """Also collect from this hub. Raise ValueError if there is a hub with this name."""
        check_instance("hub", hub, Hub, "a Hub, as open_hub() gives it")
        _check_name("hub", hub.name, [each.name for each in self._hubs])
        self._hubs += (hub,)

    def discard_hub(self, hub: Hub) -> None:
        """Stop collecting from this hub. Call it when the hub is closed; then its name is free again."""
        check_instance("hub", hub, Hub, "a Hub, as open_hub() gives it")
        self._hubs = tuple(each for each in self._hubs if each is not hub)

    def add_runs(self, runs: Runs) -> None:
        """Also collect from these runs. Raise ValueError if there are runs with this name, which is their prefix."""
        check_instance("runs", runs, Runs, "a Runs, as open_runs() gives it")
        _check_name("Runs", runs.name, [each.name for each in self._runs])
        self._runs += (runs,)

    def discard_runs(self, runs: Runs) -> None:
        """Stop collecting from these runs. Call it when they are closed; then their name is free again."""
        check_instance("runs", runs, Runs, "a Runs, as open_runs() gives it")
        self._runs = tuple(each for each in self._runs if each is not runs)

    def collect(self) -> Iterator[Metric]:
        """Yield the current value of every metric. A registry calls this."""
        yield from self._collect_groups()
        yield from self._collect_hubs()
        yield from self._collect_runs()
        yield from self._first_event.collect()
        yield from self._duration.collect()

    def _collect_groups(self) -> Iterator[Metric]:
        families = _Families("group")
        open_streams = families.gauge("open_streams", "Streams that are open.")
        stalled = families.gauge("stalled_streams", "Streams whose write in progress has taken a second or longer.")
        opened = families.counter("streams_opened", "Streams that were opened.")
        closed = families.counter("streams_closed", "Streams that have ended, by reason.", "reason")
        refused = families.counter("streams_refused", "Streams that were refused, by the limit.", "reason")
        events = families.counter("events_written", "Events given to the server.")
        written = families.counter("bytes_written", "Bytes given to the server, including pings.")
        dropped = families.counter("events_dropped", "Events that clients missed because of an overflow policy.")
        stalls = families.counter("send_stalls", "Writes that took a second or longer.")
        for group in self._groups:
            statistics = group.statistics()
            name = [statistics.name]
            open_streams.add_metric(name, statistics.open_streams)
            stalled.add_metric(name, statistics.stalled)
            opened.add_metric(name, statistics.opened)
            for reason in CloseReason:  # all reasons: a rate needs a series before its first increase
                closed.add_metric([*name, reason.value], statistics.closed.get(reason, 0))
            for limit in RefusalReason:
                refused.add_metric([*name, limit.value], statistics.refused.get(limit, 0))
            events.add_metric(name, statistics.written_events)
            written.add_metric(name, statistics.written_bytes)
            dropped.add_metric(name, statistics.dropped)
            stalls.add_metric(name, statistics.stalls)
        yield from families

    def _collect_hubs(self) -> Iterator[Metric]:
        families = _Families("hub")
        subscribers = families.gauge("hub_subscribers", "Subscriptions.")
        feeds = families.gauge("hub_feeds", "Different choices of topics among the subscriptions.")
        lag = families.gauge("hub_lag_events", "The most events that a subscriber has yet to take from the ring.")
        published = families.counter("hub_published", "Events published in this process.")
        delivered = families.counter("hub_delivered", "Events handed to subscribers, counted once for each subscriber.")
        dropped = families.counter("hub_dropped", "Events that subscribers missed because of their overflow policy.")
        resumes = families.counter("hub_resumes", "How often a subscriber fell behind and read the store.")
        gaps = families.counter("hub_gaps", "How often a subscriber was sent a gap event.")
        for hub in self._hubs:
            statistics = hub.statistics()
            name = [statistics.name]
            subscribers.add_metric(name, statistics.subscribers)
            feeds.add_metric(name, statistics.feeds)
            lag.add_metric(name, statistics.lag)
            published.add_metric(name, statistics.published)
            delivered.add_metric(name, statistics.delivered)
            dropped.add_metric(name, statistics.dropped)
            resumes.add_metric(name, statistics.resumes)
            gaps.add_metric(name, statistics.gaps)
        yield from families

    def _collect_runs(self) -> Iterator[Metric]:
        families = _Families("runs")
        running = families.gauge("runs_running", "Runs of this process.")
        watchers = families.gauge("runs_watchers", "Responses of this process that watch a run.")
        started = families.counter("runs_started", "Runs that this process has started.")
        ended = families.counter("runs_ended", "Runs of this process that have ended, by state.", "state")
        events = families.counter("runs_events", "Events that runs of this process have sent.")
        for runs in self._runs:
            statistics = runs.statistics()
            name = [statistics.name]
            running.add_metric(name, statistics.running)
            watchers.add_metric(name, statistics.watchers)
            started.add_metric(name, statistics.started)
            for state in ("completed", "failed", "stopped", "interrupted"):
                ended.add_metric([*name, state], getattr(statistics, state))
            events.add_metric(name, statistics.events)
        yield from families


class _Times:
    """Observes the streams of one group."""

    def __init__(self, first_event: Histogram, duration: Histogram) -> None:
        self._first_event = first_event
        self._duration = duration

    def stream_closed(self, stream: StreamStatistics, /) -> None:
        """Observe the stream's age, and the time to its first event."""
        self._duration.observe(stream.age)
        if stream.first_event_after is not None:
            self._first_event.observe(stream.first_event_after)


class _Families:
    """The metrics of all groups, of all hubs, or of all runs, in order."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._families: list[Metric] = []

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families)

    def gauge(self, name: str, documentation: str) -> GaugeMetricFamily:
        """Add a gauge and return it."""
        family = GaugeMetricFamily(f"sse_trio_{name}", documentation, labels=[self._label])
        self._families.append(family)
        return family

    def counter(self, name: str, documentation: str, *labels: str) -> CounterMetricFamily:
        """Add a counter and return it. Prometheus appends `_total` to its name."""
        family = CounterMetricFamily(f"sse_trio_{name}", documentation, labels=[self._label, *labels])
        self._families.append(family)
        return family


def _check_buckets(name: str, buckets: object) -> None:
    wanted = "a sequence of increasing seconds, such as (0.1, 1, 10)"
    bounds = members_of(buckets)
    if not bounds or not all(type(bound) in (int, float) for bound in bounds):
        raise wrong(TypeError, name, wanted, buckets)
    if not all(low < high for low, high in pairwise(cast("Sequence[float]", bounds))):
        raise wrong(ValueError, name, wanted, buckets)


def _check_name(kind: str, name: str, taken: list[str]) -> None:
    if name in taken:
        msg = f"the name of each {kind} must be unique, because it is the label; got {name!r} twice"
        raise ValueError(msg)
