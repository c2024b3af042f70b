# The progress of a job: the job runs whether somebody watches or not, and who watches sees all of it, once.
#
# Who comes late is sent the beginning, who was cut off the part that is missing. The job is a task of the application,
# not of a stream. The stream ends with the job. A browser would then connect again, and the answer to that is a 204,
# which it takes for an end (WHATWG HTML 9.2.3).
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
from anyio import create_task_group, sleep
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, Hub, ServerBridge, ServerSentEvent, last_event_id, open_hub


class State(TypedDict):
    """What the lifespan hands to every request."""

    hub: Hub
    task_group: TaskGroup
    last_ids: dict[str, str]


def topic_of(job: str) -> str:
    """Return the topic of a job, whose name is what somebody has sent: `*` would be every job."""
    return f"jobs/{quote(job, safe='')}"


async def work(hub: Hub, job: str, last_ids: dict[str, str]) -> None:
    """Stand for the job."""
    for percent in range(0, 100, 5):
        await hub.publish(topic_of(job), ServerSentEvent(percent, event="progress"))
        await sleep(0.25)
    last_ids[job] = str(await hub.publish(topic_of(job), ServerSentEvent("100", event="done")))


async def start(request: Request) -> Response:
    """Start a job."""
    job = (await request.json())["name"]
    request.state.task_group.start_soon(work, request.state.hub, job, request.state.last_ids)
    return Response(status_code=202, headers={"location": f"/{topic_of(job)}"})


async def watch(send_channel: EventSendChannel, hub: Hub, job: str, after: str | None) -> None:
    """Send the progress of a job, up to its end."""
    async with hub.subscribe(topic_of(job), after=after, replay=100) as subscription:
        async for event in subscription:
            await send_channel.send(event)
            if event.event == "done":
                return


async def endpoint(request: Request) -> Response:
    """Answer with the progress of a job; with a 204 to those who have seen it all."""
    job, after = request.path_params["job"], last_event_id(request)
    if after is not None and after == request.state.last_ids.get(job):
        return Response(status_code=204)
    return EventSourceResponse(watch, request.state.hub, job, after)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """Jobs run while the server does. To have their progress survive it: open_hub(SQLiteStore("jobs.sqlite"))."""
    async with open_hub() as hub, create_task_group() as task_group:
        yield {"hub": hub, "task_group": task_group, "last_ids": {}}
        task_group.cancel_scope.cancel()


routes = [Route("/jobs", start, methods=["POST"]), Route("/jobs/{job}", endpoint)]
app = ServerBridge(Starlette(routes=routes, lifespan=lifespan))

if __name__ == "__main__":
    serve(app)
