# FastAPI: a path operation returns the response; dependencies, models and `Last-Event-ID` work as everywhere.
#
#     pip install fastapi "sse-trio[hypercorn,json]"
#     python examples/fastapi_app.py
#     curl -N http://127.0.0.1:8000/rooms/lobby -H "Last-Event-ID: 3"

from __future__ import annotations

import itertools
from datetime import datetime, timezone
from typing import Annotated

from _serve import serve
from anyio import sleep
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent, last_event_id


class Message(BaseModel):
    """What is sent; ServerSentEvent.json() knows what to do with it."""

    room: str
    text: str
    at: datetime


async def messages(send_channel: EventSendChannel, room: str, after: int) -> None:
    """Send the messages of a room, beginning after the one that the client has seen last."""
    for n in itertools.count(after + 1):
        message = Message(room=room, text=f"message {n}", at=datetime.now(timezone.utc))
        await send_channel.send(ServerSentEvent.json(message, event="message", id=str(n)))
        await sleep(0.5)


async def known_room(room: str) -> str:
    """Refuse a room that there is not, as any dependency would."""
    if room != "lobby":
        raise HTTPException(404, "no such room")
    return room


app = FastAPI()
app.add_middleware(ServerBridge)  # after all other middlewares


@app.get("/rooms/{room}")
async def room_events(request: Request, room: Annotated[str, Depends(known_room)]) -> EventSourceResponse:
    """Stream the messages of a room."""
    last = last_event_id(request) or ""  # whatever the client has sent
    return EventSourceResponse(messages, room, int(last) if last.isdecimal() and len(last) < 10 else 0)


if __name__ == "__main__":
    serve(app)
