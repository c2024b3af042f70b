"""What Prometheus gets from groups and hubs."""

from __future__ import annotations

import anyio
import anyio.to_thread
import pytest

from sse_trio import (
    CloseReason,
    EventSourceResponse,
    RefusalReason,
    StreamGroup,
    StreamRefusedError,
    open_hub,
    open_runs,
)
from sse_trio.testing import open_test_stream, wait_all_tasks_blocked

prometheus_client = pytest.importorskip("prometheus_client")
metrics = pytest.importorskip("sse_trio.metrics")

pytestmark = pytest.mark.anyio


@pytest.fixture
def group():
    return StreamGroup(name="app")


@pytest.fixture
def registry():
    return prometheus_client.CollectorRegistry(auto_describe=True)


async def one_and_wait(send_channel):
    await anyio.sleep(2)
    await send_channel.send("one")
    await anyio.sleep_forever()


async def test_a_group(group, registry):
    """A scrape says what the group has counted, by its name, and closed streams by their reason."""
    registry.register(metrics.EventStreamCollector(group))
    value = lambda name, **labels: registry.get_sample_value(f"sse_trio_{name}", {"group": "app", **labels})  # noqa: E731
    assert value("open_streams") == 0
    async with (
        open_test_stream(EventSourceResponse(one_and_wait, group=group)) as first,
        open_test_stream(EventSourceResponse(one_and_wait, group=group)) as second,
    ):
        await anyio.sleep(3)
        await group.kick_stream(1)
        await first.wait_closed()
        second.stall()
        await anyio.sleep(20)  # a ping is under way
        assert value("open_streams") == 1
        assert value("stalled_streams") == 1
        assert value("streams_opened_total") == 2
        assert value("streams_closed_total", reason="kicked") == 1
        for reason in set(CloseReason) - {CloseReason.KICKED}:
            assert value("streams_closed_total", reason=reason.value) == 0
        assert value("events_written_total") == 2
        assert value("bytes_written_total") == group.statistics().written_bytes > 0
        assert value("events_dropped_total") == 0
        assert value("send_stalls_total") == 1
        second.resume()
    assert value("first_event_seconds_count") == 2
    assert value("first_event_seconds_sum") == pytest.approx(4, abs=0.5)
    assert value("first_event_seconds_bucket", le="1.0") == 0
    assert value("first_event_seconds_bucket", le="2.5") == 2
    assert value("stream_duration_seconds_count") == 2
    assert value("stream_duration_seconds_sum") == pytest.approx(3.5 + 24, abs=0.1)  # the head came after half a second


async def test_refusals(registry):
    """A scrape says how many streams were refused, by the limit, each there from the start."""
    group = StreamGroup(name="app", max_streams=1)
    registry.register(metrics.EventStreamCollector(group))
    async with open_test_stream(EventSourceResponse(one_and_wait, group=group)):
        with pytest.raises(StreamRefusedError):
            async with open_test_stream(EventSourceResponse(one_and_wait, group=group)):
                pass
        refused = {
            reason: registry.get_sample_value(
                "sse_trio_streams_refused_total", {"group": "app", "reason": reason.value}
            )
            for reason in RefusalReason
        }
    assert refused == {
        RefusalReason.MAX_STREAMS: 1,
        RefusalReason.MAX_STREAMS_PER: 0,
        RefusalReason.ACCEPT_RATE: 0,
    }


async def test_a_stream_without_an_event_has_no_first_one(group, registry, caplog):
    """A stream that never had an event is not observed as one whose first event came at once."""
    registry.register(metrics.EventStreamCollector(group))

    async def nothing(send_channel):
        pass

    async with open_test_stream(EventSourceResponse(nothing, group=group)) as stream:
        await stream.wait_closed()
    assert registry.get_sample_value("sse_trio_first_event_seconds_count", {"group": "app"}) == 0
    assert registry.get_sample_value("sse_trio_stream_duration_seconds_count", {"group": "app"}) == 1
    assert "raised" not in caplog.text


async def test_a_hub(registry):
    """A scrape says what a hub has counted, by its name, until it is discarded."""
    collector = metrics.EventStreamCollector()
    registry.register(collector)
    value = lambda name: registry.get_sample_value(f"sse_trio_hub_{name}", {"hub": "prices"})  # noqa: E731
    async with (
        open_hub(name="prices", max_ring_events=2) as hub,
        hub.subscribe("a") as subscription,
        hub.subscribe("*", overflow="drop_oldest") as other,
    ):
        collector.add_hub(hub)
        assert value("lag_events") == 0
        for _ in range(3):
            await hub.publish("a", "x")
        await wait_all_tasks_blocked()
        await subscription.receive()
        assert value("subscribers") == 2
        assert value("feeds") == 2
        assert value("lag_events") == 3
        assert value("published_total") == 3
        assert value("delivered_total") == 3
        for _ in range(10):
            await hub.publish("a", "x")
        await other.receive()
        for _ in range(3):
            await subscription.receive()
        assert value("dropped_total") == hub.statistics().dropped > 0
        assert value("resumes_total") == hub.statistics().resumes > 0
        assert value("gaps_total") == 0
    collector.discard_hub(hub)
    assert value("subscribers") is None


async def test_runs(registry):
    """A scrape says what runs have counted, by their prefix, until they are discarded."""
    collector = metrics.EventStreamCollector()
    registry.register(collector)
    value = lambda name, **labels: registry.get_sample_value(f"sse_trio_runs_{name}", {"runs": "chats", **labels})  # noqa: E731
    async with open_hub() as hub, open_runs(hub, prefix="chats") as runs:
        collector.add_runs(runs)
        assert value("running") == 0
        await runs.start("a", one_and_wait)
        async with open_test_stream(runs.response("a")) as stream:
            await stream.receive()
            assert (value("running"), value("watchers"), value("started_total"), value("events_total")) == (1, 1, 1, 1)
            assert value("ended_total", state="stopped") == 0
        await runs.stop("a")
        assert value("running") == 0
        assert value("ended_total", state="stopped") == 1
        with pytest.raises(ValueError, match="'chats' twice"):
            collector.add_runs(runs)
        assert repr(collector) == "<EventStreamCollector of 'chats'>"
        collector.discard_runs(runs)
    assert value("running") is None


async def test_names_are_labels(group):
    """Two groups or hubs of one name would be one time series: adding the second is an error."""
    assert repr(metrics.EventStreamCollector()) == "<EventStreamCollector of nothing>"
    collector = metrics.EventStreamCollector(group)
    with pytest.raises(ValueError, match="name of each group must be unique.*'app'"):
        collector.add_group(StreamGroup(name="app"))
    collector.add_group(StreamGroup(name="admin"))
    async with open_hub() as hub, open_hub() as other:
        collector.add_hub(hub)
        with pytest.raises(ValueError, match="name of each hub must be unique.*'hub'"):
            collector.add_hub(other)
        collector.discard_hub(hub)
        collector.add_hub(other)
    assert repr(collector) == "<EventStreamCollector of 'app', 'admin', 'hub'>"


@pytest.mark.usefixtures("real_clock")
async def test_a_scrape_in_a_thread_while_streams_come_and_go(group, registry):
    """prometheus-client's own server scrapes in a thread: what it gets is whole, whatever the loop does meanwhile."""
    registry.register(metrics.EventStreamCollector(group))

    async def one(send_channel):
        await send_channel.send("one")

    def scrape():
        for _ in range(100):
            text = prometheus_client.generate_latest(registry)
            assert b'sse_trio_open_streams{group="app"}' in text

    async with anyio.create_task_group() as task_group:
        task_group.start_soon(anyio.to_thread.run_sync, scrape)
        for _ in range(200):
            async with open_test_stream(EventSourceResponse(one, group=group)) as stream:
                await stream.wait_closed()
    assert group.statistics().opened == 200
