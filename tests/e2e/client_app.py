# The application that the tests of the client, and clients that are not ours, read from.

from __future__ import annotations

import json

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent, last_event_id


async def count(send_channel: EventSendChannel, first: int, last: int) -> None:
    for n in range(first, last + 1):
        await send_channel.send(ServerSentEvent(f"number {n}\n\u2026", id=str(n), event="named" if n % 2 else None))
        await anyio.sleep(0.001)


async def numbers(request: Request) -> Response:
    """The numbers after Last-Event-ID, at most `per_stream` of them; 204 after the `last`."""
    last, per_stream = request.path_params["last"], request.path_params["per_stream"]
    seen = int(last_event_id(request) or 0)
    if seen >= last:
        return Response(status_code=204)
    return EventSourceResponse(count, seen + 1, min(seen + per_stream, last), retry=10)


class OpenStreams:
    """How many streams are open that end only when their client leaves."""

    def __init__(self) -> None:
        self.count = 0
        self.changed = anyio.Event()

    def add(self, number: int) -> None:
        self.count += number
        self.changed.set()
        self.changed = anyio.Event()

    async def produce(self, send_channel: EventSendChannel, interval: float) -> None:
        self.add(1)
        try:
            while True:
                await send_channel.send("x" * 1000)
                await anyio.sleep(interval)
        finally:
            self.add(-1)


async def endless(request: Request) -> Response:
    """An event at once, and then one after each interval, for ever."""
    return EventSourceResponse(request.app.state.open.produce, float(request.path_params["interval"]))


async def never(request: Request) -> Response:
    """No answer, and no end of waiting for one but the client's leaving."""
    request.app.state.open.add(1)
    while (await request.receive())["type"] != "http.disconnect":
        pass
    request.app.state.open.add(-1)
    return Response()


async def none_open(request: Request) -> Response:
    """Answers when no endless stream is open."""
    streams = request.app.state.open
    while streams.count:
        await streams.changed.wait()
    return Response(b"none")


async def status(request: Request) -> Response:
    """Any status, with a body that would be an event."""
    headers = {"location": "/numbers/3/3"} if 300 <= request.path_params["status"] < 400 else {}
    return Response(
        b"data: x\n\n", request.path_params["status"], headers={"content-type": "text/event-stream", **headers}
    )


async def openai_chunks(send_channel: EventSendChannel) -> None:
    for number, word in enumerate(("One", " two\n", " \u2026")):
        delta = {"role": "assistant", "content": word} if number == 0 else {"content": word}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        await send_channel.send(ServerSentEvent.json(chunk | {"choices": [choice]}))
    await send_channel.send("[DONE]")


async def anthropic_events(send_channel: EventSendChannel) -> None:
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m"}
    events = [
        {"type": "message_start", "message": message | {"stop_reason": None, "stop_sequence": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
            for word in ("One", " two\n", " \u2026")
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    for event in events:
        await send_channel.send(ServerSentEvent.json(event, event=event["type"]))


async def chat(request: Request) -> Response:
    assert json.loads(await request.body())["stream"] is True
    return EventSourceResponse(openai_chunks)


async def messages(request: Request) -> Response:
    assert json.loads(await request.body())["stream"] is True
    return EventSourceResponse(anthropic_events)


inner = Starlette(
    routes=[
        Route("/numbers/{last:int}/{per_stream:int}", numbers),
        Route("/endless/{interval:float}", endless),
        Route("/never", never),
        Route("/none-open", none_open),
        Route("/status/{status:int}", status),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/messages", messages, methods=["POST"]),
    ]
)
inner.state.open = OpenStreams()
app = ServerBridge(inner)
