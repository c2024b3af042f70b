# A chat whose answers survive a reload, a second tab, and the worker that gives them.
#
# A POST starts the answer as a run, and the page streams it: after a reload it asks for all of it again. A second tab
# sees the same. Stop ends it, on whichever worker it runs. If that worker is killed, the page is told. Ask for "error"
# to see an answer fail in the middle.
#
#     pip install fastapi uvicorn sse-trio
#     cd examples/chat_runs
#     uvicorn chat_app:app --workers 2
#     hypercorn --worker-class trio --workers 2 chat_app:app    # the same on trio
#
# OpenAI's client works with it too: OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="-").

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict

from anyio import sleep
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from starlette.responses import Response

from sse_trio import EventSendChannel, RunEnd, Runs, ServerBridge, ServerSentEvent, last_event_id, open_hub, open_runs
from sse_trio.stores import SQLiteStore

PAGE = Path(__file__).with_name("page.html")


class State(TypedDict):
    """What the lifespan hands to every request."""

    runs: Runs
    completions: Runs


class Question(BaseModel):
    """What the page asks."""

    prompt: str


class Message(BaseModel):
    """A message in the form of OpenAI's API."""

    role: str
    content: str


class Completion(BaseModel):
    """A request in the form of OpenAI's API."""

    model: str = "parrot"
    messages: list[Message]
    stream: bool = False


async def generate(prompt: str) -> AsyncIterator[str]:
    """Stand for the model."""
    text = f"You asked: {prompt}. " + "Light of short wavelengths is scattered most, and so the sky is blue. " * 5
    for number, word in enumerate(text.split()):
        if prompt == "error" and number == 10:
            raise RuntimeError("the model is out of breath")  # it is in the log, and nowhere else
        yield f"{word} "
        await sleep(float(os.environ.get("CHAT_PAUSE", "0.1")))


async def answer(send_channel: EventSendChannel, prompt: str) -> None:
    """Send the words of an answer."""
    async for word in generate(prompt):
        await send_channel.send(ServerSentEvent.json(word))


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


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[State]:
    """Share the answers between the workers, by a file."""
    store = SQLiteStore(os.environ.get("CHAT_STORE", "chat.sqlite"))
    async with (
        open_hub(store) as hub,
        open_runs(hub, prefix="chats", lease=3) as runs,
        open_runs(hub, prefix="completions", on_end=completion_end, stop_when_unwatched=10) as completions,
    ):
        yield {"runs": runs, "completions": completions}


api = FastAPI(lifespan=lifespan)


@api.get("/")
async def page() -> HTMLResponse:
    """Show the page."""
    return HTMLResponse(PAGE.read_text(encoding="utf-8"))


@api.post("/chats/{chat}", status_code=202)
async def ask(request: Request, chat: str, question: Question) -> dict[str, bool]:
    """Start an answer; one that is being given goes on."""
    run = await request.state.runs.start(chat, answer, question.prompt, replace=True, labels={"chat": chat})
    return {"started": run.started_here}


@api.api_route("/chats/{chat}", methods=["GET", "HEAD"])
async def watch(request: Request, chat: str) -> Response:
    """Stream the answer: 404 before there is one, 204 to a client that has seen its end."""
    runs: Runs = request.state.runs
    return runs.response(chat, after=last_event_id(request))


@api.delete("/chats/{chat}")
async def stop(request: Request, chat: str) -> dict[str, str]:
    """Stop the answer, on whichever worker it is given."""
    status = await request.state.runs.stop(chat)
    if status is None:
        raise HTTPException(404)
    return {"state": status.state, "worker": str(os.getpid())}


@api.post("/v1/chat/completions")
async def completion(request: Request, asked: Completion) -> Response:
    """Start an answer and stream it, in one request."""
    if not asked.stream:
        raise HTTPException(400, "write stream=True")
    name = f"chatcmpl-{secrets.token_hex(8)}"
    completions: Runs = request.state.completions
    await completions.start(name, complete, name, asked.model, asked.messages[-1].content)
    return completions.response(name, ping=None)


app = ServerBridge(api)
