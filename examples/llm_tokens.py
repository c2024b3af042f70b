# Tokens of a language model, streamed in answer to a POST, in the form that LLM clients read.
#
# The body is read before the response is made, so a bad request is a 400 and not a stream. When the reader closes
# the tab the producer is cancelled, and with it the generation that nobody will see.
#
#     python examples/llm_tokens.py
#     curl -N http://127.0.0.1:8000/v1/completions -d '{"prompt": "Why is the sky blue?"}'

from __future__ import annotations

from collections.abc import AsyncIterator
from json import JSONDecodeError

from _serve import serve
from anyio import sleep
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent


async def generate(prompt: str) -> AsyncIterator[str]:
    """Stand for the model."""
    for word in f"You asked: {prompt} Light of short wavelengths is scattered most.".split():
        await sleep(0.05)
        yield word + " "


async def completion(send_channel: EventSendChannel, prompt: str) -> None:
    """Send each token as it comes, then the end mark that clients of this kind wait for."""
    async for token in generate(prompt):
        await send_channel.send(ServerSentEvent.json({"choices": [{"index": 0, "text": token}]}))
    await send_channel.send("[DONE]")


async def endpoint(request: Request) -> EventSourceResponse:
    """Read the prompt, answer with tokens. No pings: tokens come often, and not every client skips comments."""
    try:
        prompt = (await request.json())["prompt"]
    except (JSONDecodeError, KeyError, TypeError):
        raise HTTPException(400, 'the body must be JSON: {"prompt": "..."}') from None
    return EventSourceResponse(completion, prompt, ping=None)


app = Starlette(routes=[Route("/v1/completions", endpoint, methods=["POST"])])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
