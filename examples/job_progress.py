# The progress of a job: the job runs whether anyone watches or not, and whoever watches sees all of it, once.
#
# A job is a run. A client that comes late is sent the beginning, one that was cut off what it has missed, and one that
# has seen the end a 204, which a browser takes for an end (WHATWG HTML 9.2.3). An unknown job is a 404.
#
#     python examples/job_progress.py
#     curl http://127.0.0.1:8000/jobs -d '{"name": "import"}'
#     curl -N http://127.0.0.1:8000/jobs/import

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict
from urllib.parse import quote

from _serve import serve
from anyio import sleep
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sse_trio import (
    EventSendChannel,
    RunEnd,
    Runs,
    ServerBridge,
    ServerSentEvent,
    last_event_id,
    open_hub,
    open_runs,
)


class State(TypedDict):
    """What the lifespan hands to every request."""

    runs: Runs


async def work(send_channel: EventSendChannel) -> None:
    """Stand for the job."""
    for percent in range(0, 100, 5):
        await send_channel.send(ServerSentEvent(percent, event="progress"))
        await sleep(0.25)


def on_end(end: RunEnd) -> ServerSentEvent:
    """Return the last event of a job."""
    if end.state == "completed":
        return ServerSentEvent("100", event="done")
    return ServerSentEvent(end.state, event="failed")  # what the job raised is in the log


async def start(request: Request) -> Response:
    """Start a job, unless it runs already; begin anew if it has ended."""
    job = (await request.json())["name"]
    await request.state.runs.start(job, work, replace=True)
    return Response(status_code=202, headers={"location": f"/jobs/{quote(job, safe='')}"})


async def watch(request: Request) -> Response:
    """Answer with the progress of a job."""
    runs: Runs = request.state.runs
    return runs.response(request.path_params["job"], after=last_event_id(request))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """Jobs run while the server does. To have their progress survive it: open_hub(SQLiteStore("jobs.sqlite"))."""
    async with open_hub() as hub, open_runs(hub, on_end=on_end) as runs:
        yield {"runs": runs}


routes = [Route("/jobs", start, methods=["POST"]), Route("/jobs/{job}", watch)]
app = Starlette(routes=routes, lifespan=lifespan)
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
