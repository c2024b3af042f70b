# Typed events: one declaration says what is sent, what a client gets, and what the OpenAPI document says of it.
#
#     pip install fastapi "sse-trio[hypercorn,json]"
#     python examples/typed_events.py
#     curl -N http://127.0.0.1:8000/downloads/7
#     curl http://127.0.0.1:8000/openapi.json

from __future__ import annotations

from typing import Literal

from _serve import serve
from anyio import sleep
from fastapi import FastAPI
from pydantic import BaseModel, Field

from sse_trio import EventSendChannel, EventSourceResponse, EventType, EventTypes, ServerBridge


class Progress(BaseModel):
    """How far a download is."""

    percent: int = Field(ge=0, le=100)


class Outcome(BaseModel):
    """How a download ended."""

    status: Literal["complete", "failed"]
    bytes: int


class Download(EventTypes[Progress | Outcome]):
    """What the stream of a download has in it. A type checker knows what each of these takes."""

    progress = EventType(Progress)
    outcome = EventType(Outcome, name="download.outcome")


download = Download()


async def fetch(send_channel: EventSendChannel, number: int) -> None:
    """Send how far the download is, and how it ended."""
    for percent in range(0, 101, 5):
        await send_channel.send(download.progress(Progress(percent=percent), id=f"{number}-{percent}"))
        await sleep(0.5)
    await send_channel.send(download.outcome(Outcome(status="complete", bytes=1_048_576)))


app = FastAPI()


@app.get("/downloads/{number}", response_class=EventSourceResponse, responses=download.responses())
async def download_events(number: int) -> EventSourceResponse:
    """Follow a download."""
    return EventSourceResponse(fetch, number)


app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
