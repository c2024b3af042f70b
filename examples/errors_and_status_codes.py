# What the client learns when a producer fails, before its first event and after.
#
# The head of the response is held back until the first event (or `send_channel.started()`, or `commit_within`
# seconds), so a producer that fails before it decides the status code. After it the status is out: what was sent is
# delivered, the connection is cut short, and if you want the client to read about it, `on_error` says what it
# reads.
#
#     python examples/errors_and_status_codes.py
#     curl -i http://127.0.0.1:8000/jobs/3      # 404: raised by the producer
#     curl -i http://127.0.0.1:8000/jobs/2      # 500: a bug before the first event
#     curl -iN http://127.0.0.1:8000/jobs/1     # 200, 3 events, and an event of the type `failed`

from __future__ import annotations

from _serve import serve
from anyio import sleep
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent

JOBS = {"1": ["fetched", "unpacked", "checked"], "2": None}


async def progress(send_channel: EventSendChannel, job: str) -> None:
    """Report the steps of a job, which then fails."""
    if job not in JOBS:
        raise HTTPException(404, f"there is no job {job}")
    for step in JOBS[job] or broken():
        await send_channel.send(ServerSentEvent(step, event="progress"))
        await sleep(0.1)
    raise RuntimeError("the disk is full, says /srv/jobs/1/secret-path")


def broken() -> list[str]:
    """Fail as a bug would."""
    raise ZeroDivisionError


def tell_client(exc: Exception) -> ServerSentEvent:
    """Choose what the client reads. Not `str(exc)`: that is for the log, which gets the exception as well."""
    return ServerSentEvent("the job failed; try again later", event="failed")


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with the progress of a job."""
    return EventSourceResponse(progress, request.path_params["job"], on_error=tell_client)


app = Starlette(routes=[Route("/jobs/{job}", endpoint)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
