"""The span of a stream, and that of a run."""

from __future__ import annotations

import anyio
import pytest

from sse_trio import EventSourceResponse, StreamGroup, open_hub, open_runs
from sse_trio.testing import open_test_stream, wait_all_tasks_blocked

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from sse_trio.tracing import RunTracer, StreamTracer

pytestmark = pytest.mark.anyio


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


@pytest.fixture
def group(tracer):
    group = StreamGroup()
    group.add_observer(StreamTracer(tracer, labels=("tenant", "absent")))
    return group


async def one_and_wait(send_channel):
    await anyio.sleep(2)
    await send_channel.send("one")
    await anyio.sleep_forever()


async def test_a_span_for_each_stream(group, exporter):
    """A stream that has ended is one span, as long as the stream was, with its figures and why it ended."""
    response = EventSourceResponse(one_and_wait, group=group, labels={"tenant": "acme", "user": "7"})
    async with open_test_stream(response, "/clock") as stream:
        await anyio.sleep(10)
        assert exporter.get_finished_spans() == ()
        stream.disconnect()
        await stream.wait_closed()
    [span] = exporter.get_finished_spans()
    assert span.name == "event stream"
    assert span.attributes == {
        "url.path": "/clock",
        "sse_trio.events": 1,
        "sse_trio.bytes": len(stream.body),
        "sse_trio.dropped": 0,
        "sse_trio.stalls": 0,
        "sse_trio.close_reason": "disconnected",
        "sse_trio.label.tenant": "acme",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(10, abs=1)
    [event] = span.events
    assert event.name == "first event"
    assert (event.timestamp - span.start_time) / 1e9 == pytest.approx(2, abs=0.5)


async def test_it_belongs_to_the_request(group, exporter, tracer):
    """Its parent is the span that is current where the stream is served, as an instrumentation has it."""

    async def app(scope, receive, send):
        with tracer.start_as_current_span("GET /clock"):
            await EventSourceResponse(one_and_wait, group=group)(scope, receive, send)

    async with open_test_stream(app) as stream:
        await group.kick()
        await stream.wait_closed()
    span, request = exporter.get_finished_spans()
    assert span.parent is not None
    assert span.parent.span_id == request.context.span_id


async def test_failures_are_errors(group, exporter):
    """A stream whose producer failed, or whose client stalled, has the status of an error; it may have had no event."""

    async def fail(send_channel):
        send_channel.started()
        raise LookupError

    with pytest.raises(LookupError):
        async with open_test_stream(EventSourceResponse(fail, group=group)) as stream:
            await stream.wait_closed()
    [span] = exporter.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "failed")
    assert span.events == ()


async def test_without_an_sdk_it_does_nothing():
    """With the API alone, as in an application that has set up nothing, streams are served all the same."""
    group = StreamGroup()
    tracer = StreamTracer(labels=("tenant",))
    assert repr(tracer) == "<StreamTracer: labels ('tenant',)>"
    group.add_observer(tracer)
    async with open_test_stream(EventSourceResponse(one_and_wait, group=group)) as stream:
        stream.disconnect()
        await stream.wait_closed()
    assert group.statistics().open_streams == 0


async def three(send_channel):
    for n in range(3):
        await send_channel.send(str(n))


async def test_a_span_for_each_run(exporter, tracer):
    """A run that has ended is a trace of its own, with its times and its state, and a link to who started it."""
    async with open_hub() as hub, open_runs(hub) as runs:
        runs.add_observer(RunTracer(tracer, labels=("tenant", "absent")))
        with tracer.start_as_current_span("POST /chat"):
            await runs.start("chat/42", three, labels={"tenant": "acme", "user": "7"})
        async with runs.watch("chat/42") as subscription:
            events = [event async for event in subscription]
        status = await runs.status("chat/42")
    request, span = sorted(exporter.get_finished_spans(), key=lambda span: span.name)
    assert len(events) == 4
    assert (span.name, span.parent) == ("run", None)
    assert [link.context.span_id for link in span.links] == [request.context.span_id]
    assert span.context.trace_id != request.context.trace_id
    assert span.attributes == {
        "sse_trio.run.key": "chat/42",
        "sse_trio.run.state": "completed",
        "sse_trio.run.reason": "",
        "sse_trio.events": 3,
        "sse_trio.label.tenant": "acme",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.start_time == round(status.started_at * 1e9)
    assert span.end_time == round(status.ended_at * 1e9)


async def test_a_run_that_has_failed_is_an_error(exporter, tracer):
    """The span of a run whose producer raised has the status of an error; a run may be started without any span."""

    async def fail(send_channel):
        raise LookupError

    async with open_hub() as hub, open_runs(hub) as runs:
        runs.add_observer(RunTracer(tracer))
        await runs.start("a", fail)
        async with runs.watch("a") as subscription:
            assert len([event async for event in subscription]) == 1
        await wait_all_tasks_blocked()
    [span] = exporter.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "exception")
    assert span.links == ()
    assert repr(RunTracer(tracer, labels=("tenant",))) == "<RunTracer: labels ('tenant',)>"
