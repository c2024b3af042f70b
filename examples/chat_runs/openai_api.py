# The chat for OpenAI's client: OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="-").
#
# The start and the stream are one POST, and nobody can come back to an answer. So it is stopped when it is no longer
# watched.

from __future__ import annotations

import secrets
import time

from fastapi import APIRouter, HTTPException, Request
from model import generate
from pydantic import BaseModel
from starlette.responses import Response

from sse_trio import EventSendChannel, RunEnd, Runs, ServerSentEvent

router = APIRouter()


class Message(BaseModel):
    """A message in the form of OpenAI's API."""

    role: str
    content: str


class Completion(BaseModel):
    """A request in the form of OpenAI's API."""

    model: str = "parrot"
    messages: list[Message]
    stream: bool = False


async def complete(send_channel: EventSendChannel, name: str, model: str, prompt: str) -> None:
    """Send the words of an answer in the form of OpenAI's API."""
    head = {"id": name, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
    async for word in generate(prompt):
        choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
        await send_channel.send(ServerSentEvent.json({**head, "choices": [choice]}))
    await send_channel.send(
        ServerSentEvent.json({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    )


def completion_end(end: RunEnd) -> ServerSentEvent:
    """Return the last event of a completion: what OpenAI's client takes for the end, or for an error."""
    if end.state == "completed":
        return ServerSentEvent("[DONE]")
    return ServerSentEvent.json({"error": {"message": f"the answer was cut off: {end.state}", "type": "server_error"}})


@router.post("/v1/chat/completions")
async def completion(request: Request, asked: Completion) -> Response:
    """Start an answer and stream it, in one request."""
    if not asked.stream:
        raise HTTPException(400, "write stream=True")
    name = f"chatcmpl-{secrets.token_hex(8)}"
    completions: Runs = request.state.completions
    await completions.start(name, complete, name, asked.model, asked.messages[-1].content)
    return completions.response(name, ping=None)
