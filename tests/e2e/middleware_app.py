# A FastAPI application that has the bridge as its last middleware, as the docs say, and the streams of apps.py.

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import fastapi
from apps import stream

from sse_trio import EventSourceResponse, ServerBridge

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class UpperCase:
    """A middleware that changes bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_changed(message: Message) -> None:
            if "body" in message:
                message = {**message, "body": message["body"].upper()}
            await send(message)

        await self.app(scope, receive, send_changed)


app = fastapi.FastAPI()
app.add_middleware(ServerBridge, express=os.environ["SSE_E2E_BRIDGE"] == "express")


@app.get("/yield", response_class=EventSourceResponse)
async def numbers():
    """Stream numbers, as with fastapi.sse."""
    for n in range(3):
        yield n


app.add_route("/{producer}", stream)

outside = os.environ.get("SSE_E2E_OUTSIDE")
if outside == "opentelemetry":
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor.instrument_app(app)
elif outside == "upper case":
    app.add_middleware(UpperCase)
