# A live page over Server-Sent Events: one sampler for the process, two producers for each open page: what this machine
# does, and what the demo's clients report (panel.py).
#
# Rule 1: only the last event of a sample carries an id. A page that was cut off in the middle of a sample does not
#         have its id, and is sent the whole sample again.
# Rule 2: the id is the time of the sample in ms, so that a `Last-Event-ID` means the same after a restart.
# Rule 3: what is missing is said. The history lives in memory; a page that asks for more is sent a `gap` first.

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, TypedDict

import anyio
import sniffio
from machine import Machine, describe_machine
from panel import follow_reports, is_local, numbers, open_panel, order
from shared import Tally
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_trio import (
    CloseReason,
    EventSendChannel,
    EventSourceResponse,
    Hub,
    ServerBridge,
    ServerSentEvent,
    StreamGroup,
    last_event_id,
    open_event_channel,
)
from sse_trio.inspector import stream_inspector

INTERVAL = 1.0  # seconds between two samples
HISTORY = 900  # samples kept: a quarter of an hour
RETRY = 2000  # ms that a page waits before it reconnects
GROUP = StreamGroup(name="the demo")
FAREWELL = ServerSentEvent("The server is shutting down.", event="farewell")
PAGE_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
log = logging.getLogger("demo")


class Sample(NamedTuple):
    """One reading of the machine: its time in ms, and the events that tell it."""

    time: int
    events: list[ServerSentEvent]


class Recorder:
    """The last samples of this machine, shared by all streams."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=HISTORY)
        self._recorded = anyio.Event()
        self.complete_after = _now()  # ms; every sample later than this is still here

    async def run(self) -> None:
        """Take samples for ever."""
        machine = Machine()
        while True:
            await anyio.sleep(INTERVAL)
            self._record(machine.read())

    def _record(self, reading: dict[str, dict[str, object]]) -> None:
        newest = self._samples[-1].time if self._samples else self.complete_after
        if len(self._samples) == HISTORY:
            self.complete_after = self._samples[0].time
        taken = max(_now(), newest + 1)  # a clock that is set back must not make ids go back
        self._samples.append(Sample(taken, _events(taken, reading)))
        self._recorded.set()
        self._recorded = anyio.Event()

    async def wait_newer(self, cursor: int) -> list[Sample]:
        """Wait until there are samples later than `cursor` (ms), and return them, the oldest first."""
        while not self._samples or self._samples[-1].time <= cursor:
            await self._recorded.wait()
        return list(takewhile(lambda sample: sample.time > cursor, reversed(self._samples)))[::-1]


class State(TypedDict):
    """What the lifespan hands to every request."""

    recorder: Recorder
    hub: Hub
    tally: Tally
    group: StreamGroup


async def follow(send_channel: EventSendChannel, recorder: Recorder, last: int | None) -> None:
    """The producer: who we are, then every sample after `last` (ms) as it comes; all there are, if that is None."""
    await send_channel.send(ServerSentEvent.json(_hello(), event="hello"))
    cursor = recorder.complete_after if last is None else last
    while True:
        samples = await recorder.wait_newer(cursor)
        if cursor < recorder.complete_after:
            await send_channel.send(ServerSentEvent.json({"after": cursor}, event="gap"))
        for sample in samples:
            for event in sample.events:
                await send_channel.send(event)
            cursor = sample.time


async def events(request: Request) -> EventSourceResponse:
    """The stream. A page that reconnects says in `Last-Event-ID` what it has."""
    last = _parse(last_event_id(request))
    log.info("stream opened, Last-Event-ID: %s", last)
    send_channel, receive_channel = open_event_channel()
    return EventSourceResponse(
        receive_channel,
        producers=[
            partial(follow, send_channel, request.state.recorder, last),
            partial(follow_reports, send_channel.clone(), request.state.hub),
        ],
        retry=RETRY,
        farewell=FAREWELL,
        on_close=_log_close,
        labels={"browser": _browser(request)},
        group=GROUP,
    )


async def _log_close(reason: CloseReason) -> None:
    log.info("stream closed: %s", reason.value)


def _hello() -> dict[str, object]:
    return {**describe_machine(), "loop": sniffio.current_async_library(), "interval": INTERVAL * 1000, "retry": RETRY}


def _events(taken: int, reading: dict[str, dict[str, object]]) -> list[ServerSentEvent]:
    *_, last = reading
    return [
        ServerSentEvent.json({"time": taken, **values}, event=name, id=str(taken) if name == last else None)
        for name, values in reading.items()
    ]


def _browser(request: Request) -> str:
    agent = request.headers.get("user-agent", "")
    return next((name for name in ("Edg", "Firefox", "Chrome", "Safari", "curl") if name in agent), "other")


def _parse(text: str | None) -> int | None:
    """The time up to which a client says it has the samples (ms): only an id of ours, and none of the future."""
    if text is None or not re.fullmatch("[0-9]{1,15}", text):
        return None
    return min(int(text), _now())


def _now() -> int:
    return time.time_ns() // 1_000_000


def with_page_headers(app: ASGIApp) -> ASGIApp:
    """The page's files: nothing comes from elsewhere, nothing runs inline, and the browser is told so."""

    async def app_with_headers(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(PAGE_HEADERS)
            await send(message)

        await app(scope, receive, send_with_headers)

    return app_with_headers


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """The sampler and the hub run as long as the server does."""
    recorder = Recorder()
    async with open_panel() as (hub, tally), anyio.create_task_group() as task_group:
        task_group.start_soon(recorder.run)
        yield {"recorder": recorder, "hub": hub, "tally": tally, "group": GROUP}
        task_group.cancel_scope.cancel()


STATIC = Path(__file__).parent / "static"
VENDOR = StaticFiles(packages=[("sse_trio.inspector", "static/vendor")])  # uPlot
routes = [
    Route("/events", events),
    Route("/numbers", numbers),
    Route("/orders/{name}", order, methods=["POST"]),
    Mount("/streams", stream_inspector(GROUP, authorize=is_local)),
    Mount("/vendor", with_page_headers(VENDOR)),
    Mount("/", with_page_headers(StaticFiles(directory=STATIC, html=True))),
]
app = Starlette(routes=routes, lifespan=lifespan)
app.add_middleware(ServerBridge)
