# Traces for OpenTelemetry: a span for each stream and each run. Needs opentelemetry-api, the extra `opentelemetry`.
#
# Rule 1: it uses only the API. The application chooses the exporter and the sampling. Without an SDK it does nothing.
# Rule 2: a span is made when its stream has ended, with the stream's own times. So an open stream costs nothing, and
#         has no span that could get lost. The parent is the request's current span, which is still there: a stream ends
#         inside the call that serves it.
# Rule 3: a run outlives the request that started it, and its trace. So its span begins a trace of its own, with a link
#         to the span that was current in start().

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast, final

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    get_tracer,
)

from ._arguments.checks import check_instance, check_text, wrong
from ._groups.statistics import StreamStatistics
from ._reasons import ENDINGS, CloseReason
from ._runs.record import RunStatus

__all__ = ("RunTracer", "StreamTracer")


@final
class StreamTracer:
    """Makes a span for each stream of a group, with its close reason.

    ::

        group.add_observer(StreamTracer())

    The span is named ``event stream`` and has the times of the stream. Its attribute ``sse_trio.close_reason`` says why
    the stream ended; for ``failed`` and ``send_timeout`` its status is an error. It has a span event ``first event``.

    Args:
        tracer: makes the spans. By default, it is a tracer of the global provider at the time of this call.
        labels: the stream labels that become attributes, ``sse_trio.label.<name>``. By default none, because labels
            may identify the client.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """

    def __init__(self, tracer: Tracer | None = None, *, labels: tuple[str, ...] = ()) -> None:
        self._tracer, self._labels = _checked(tracer, labels)

    def __repr__(self) -> str:
        return f"<StreamTracer: labels {self._labels}>"

    def stream_closed(self, stream: StreamStatistics, /) -> None:
        """Make the span of a stream that has ended."""
        check_instance("stream", stream, StreamStatistics, "the StreamStatistics of a stream that has ended")
        end = time.time_ns()
        start = end - _nanoseconds(stream.age)
        attributes = dict(self._attributes(stream))
        span = self._tracer.start_span("event stream", kind=SpanKind.INTERNAL, start_time=start, attributes=attributes)
        if stream.first_event_after is not None:
            span.add_event("first event", timestamp=start + _nanoseconds(stream.first_event_after))
        _set_status(span, stream.close_reason)
        span.end(end)

    def _attributes(self, stream: StreamStatistics) -> Iterator[tuple[str, str | int]]:
        yield "url.path", stream.path
        yield "sse_trio.events", stream.written_events
        yield "sse_trio.bytes", stream.written_bytes
        yield "sse_trio.dropped", stream.dropped
        yield "sse_trio.stalls", stream.stalls
        yield "sse_trio.close_reason", "" if stream.close_reason is None else stream.close_reason.value
        for label in self._labels:
            if label in stream.labels:
                yield f"sse_trio.label.{label}", stream.labels[label]


@final
class RunTracer:
    """Makes a span for each run of a process, with its state.

    ::

        runs.add_observer(RunTracer())

    The span is named ``run``, has the times of the run, and is a trace of its own, with a link to the span that was
    current where the run was started: that of the request. Its attributes ``sse_trio.run.state`` and
    ``sse_trio.run.reason`` say how the run ended; for ``failed`` its status is an error.

    Args:
        tracer: as for :class:`StreamTracer`.
        labels: the labels of runs that become attributes, as for :class:`StreamTracer`.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """

    def __init__(self, tracer: Tracer | None = None, *, labels: tuple[str, ...] = ()) -> None:
        self._tracer, self._labels = _checked(tracer, labels)

    def __repr__(self) -> str:
        return f"<RunTracer: labels {self._labels}>"

    def run_ended(self, run: RunStatus, /) -> None:
        """Make the span of a run that has ended. Called where the run's producer was."""
        check_instance("run", run, RunStatus, "the RunStatus of a run that has ended")
        started_by = get_current_span().get_span_context()
        span = self._tracer.start_span(
            "run",
            context=Context(),
            kind=SpanKind.INTERNAL,
            attributes=dict(self._attributes(run)),
            links=[Link(started_by)] if started_by.is_valid else [],
            start_time=_nanoseconds(run.started_at),
        )
        if run.state == "failed":
            span.set_status(Status(StatusCode.ERROR, run.reason))
        span.end(None if run.ended_at is None else _nanoseconds(run.ended_at))

    def _attributes(self, run: RunStatus) -> Iterator[tuple[str, str | int]]:
        yield "sse_trio.run.key", run.key
        yield "sse_trio.run.state", run.state
        yield "sse_trio.run.reason", run.reason or ""
        yield "sse_trio.events", run.events or 0
        for label in self._labels:
            if label in run.labels:
                yield f"sse_trio.label.{label}", run.labels[label]


def _checked(tracer: Tracer | None, labels: tuple[str, ...]) -> tuple[Tracer, tuple[str, ...]]:
    if tracer is not None and (isinstance(tracer, type) or not hasattr(tracer, "start_span")):
        raise wrong(TypeError, "tracer", "a Tracer of OpenTelemetry, or None for the global one", tracer)
    if not isinstance(cast("object", labels), (tuple, list, set, frozenset)):
        raise wrong(TypeError, "labels", 'names of labels, such as ("tenant",)', labels)
    for label in labels:
        check_text("labels", label, 'names of labels, such as ("tenant",)')
    return get_tracer("sse_trio") if tracer is None else tracer, tuple(labels)


def _set_status(span: Span, reason: CloseReason | None) -> None:
    if reason is not None and ENDINGS[reason].is_fault:
        span.set_status(Status(StatusCode.ERROR, reason.value))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
