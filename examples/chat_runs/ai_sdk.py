# The chat for npm's `ai` (the Vercel AI SDK), with its default transport and `resume`:
#
#     useChat({ id: chat, resume: true, transport: new DefaultChatTransport({ api: "/api/chat" }) })
#
# Rule 1: the wire is the SDK's UI message stream, version 1: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol
# Rule 2: the SDK resumes an answer from its beginning, and only while it is being given. After that it expects a 204,
#         and the whole chat from the database of the application.

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request
from model import generate
from pydantic import BaseModel
from starlette.responses import Response

from sse_trio import EventSendChannel, RunEnd, Runs, ServerSentEvent

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}

router = APIRouter()


class Part(BaseModel):
    """A part of a message; the SDK has more kinds than text."""

    type: str
    text: str = ""


class UIMessage(BaseModel):
    """A message of the chat."""

    role: str
    parts: list[Part]


class Asked(BaseModel):
    """What ``sendMessage()`` posts: the chat's id, and all of its messages."""

    id: str
    messages: list[UIMessage]


def chunk(kind: str, **fields: str) -> ServerSentEvent:
    """Return a chunk of the UI message stream."""
    return ServerSentEvent.json({"type": kind, **fields})


async def answer(send_channel: EventSendChannel, prompt: str) -> None:
    """Send an answer as chunks."""
    text = secrets.token_hex(8)
    await send_channel.send(chunk("start", messageId=f"msg-{text}"))
    await send_channel.send(chunk("text-start", id=text))
    async for word in generate(prompt):
        await send_channel.send(chunk("text-delta", id=text, delta=word))
    await send_channel.send(chunk("text-end", id=text))
    await send_channel.send(chunk("finish"))


def answer_end(end: RunEnd) -> ServerSentEvent:
    """Return the last event of an answer."""
    if end.state == "completed":
        return ServerSentEvent("[DONE]")
    if end.state == "stopped":
        return chunk("abort")
    return chunk("error", errorText=f"the answer was cut off: {end.state}")


@router.post("/api/chat")
async def ask(request: Request, asked: Asked) -> Response:
    """Start an answer and stream it; one that is being given goes on."""
    runs: Runs = request.state.ui
    prompt = "".join(part.text for part in asked.messages[-1].parts if part.type == "text")
    await runs.start(asked.id, answer, prompt, replace=True)
    return runs.response(asked.id, headers=HEADERS)


@router.get("/api/chat/{chat:path}/stream")
async def resume(request: Request, chat: str) -> Response:
    """Stream the answer that is being given, from its beginning: ``reconnectToStream()``."""
    runs: Runs = request.state.ui
    status = await runs.status(chat)
    if status is None or status.state != "running":
        return Response(status_code=204)
    return runs.response(chat, headers=HEADERS)


@router.delete("/api/chat/{chat:path}/stream")
async def stop(request: Request, chat: str) -> Response:
    """Stop the answer. The SDK's own ``stop()`` only stops to read, so a button calls this as well."""
    runs: Runs = request.state.ui
    await runs.stop(chat)
    return Response(status_code=204)
