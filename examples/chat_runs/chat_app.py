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
# OpenAI's client works with it too (openai_api.py), and npm's `ai`, the Vercel AI SDK (ai_sdk.py).

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict

import ai_sdk
import openai_api
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from model import generate
from pydantic import BaseModel
from starlette.responses import Response

from sse_trio import EventSendChannel, Runs, ServerBridge, ServerSentEvent, last_event_id, open_hub, open_runs
from sse_trio.stores import SQLiteStore

PAGE = Path(__file__).with_name("page.html")


class State(TypedDict):
    """What the lifespan hands to every request."""

    runs: Runs
    completions: Runs
    ui: Runs


class Question(BaseModel):
    """What the page asks."""

    prompt: str


async def answer(send_channel: EventSendChannel, prompt: str) -> None:
    """Send the words of an answer."""
    async for word in generate(prompt):
        await send_channel.send(ServerSentEvent.json(word))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[State]:
    """Share the answers between the workers, by a file."""
    store = SQLiteStore(os.environ.get("CHAT_STORE", "chat.sqlite"))
    async with (
        open_hub(store) as hub,
        open_runs(hub, prefix="chats", lease=3) as runs,
        open_runs(hub, prefix="completions", on_end=openai_api.completion_end, stop_when_unwatched=10) as completions,
        open_runs(hub, prefix="ui", on_end=ai_sdk.answer_end, lease=3) as ui,
    ):
        yield {"runs": runs, "completions": completions, "ui": ui}


app = FastAPI(lifespan=lifespan)
app.include_router(openai_api.router)
app.include_router(ai_sdk.router)


@app.get("/")
async def page() -> HTMLResponse:
    """Show the page."""
    return HTMLResponse(PAGE.read_text(encoding="utf-8"))


@app.post("/chats/{chat}", status_code=202)
async def ask(request: Request, chat: str, question: Question) -> dict[str, bool | int]:
    """Start an answer; one that is being given goes on."""
    run = await request.state.runs.start(chat, answer, question.prompt, replace=True, labels={"chat": chat})
    return {"started": run.started_here, "worker": os.getpid()}


@app.api_route("/chats/{chat}", methods=["GET", "HEAD"])
async def watch(request: Request, chat: str) -> Response:
    """Stream the answer: 404 before there is one, 204 to a client that has seen its end."""
    runs: Runs = request.state.runs
    return runs.response(chat, after=last_event_id(request))


@app.delete("/chats/{chat}")
async def stop(request: Request, chat: str) -> dict[str, str]:
    """Stop the answer, on whichever worker it is given."""
    status = await request.state.runs.stop(chat)
    if status is None:
        raise HTTPException(404)
    return {"state": status.state, "worker": str(os.getpid())}


app.add_middleware(ServerBridge)
