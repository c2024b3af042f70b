# A FastAPI application that has the bridge as its last middleware, as the docs say, and the streams of apps.py.

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import fastapi
from _report import report
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


def init_sentry() -> None:
    """Have Sentry wrap the application and each of its middlewares, and tell the test what it would send."""
    import sentry_sdk
    from sentry_sdk.integrations.fastapi import FastApiIntegration
    from sentry_sdk.integrations.starlette import StarletteIntegration

    class Telling(sentry_sdk.Transport):
        def capture_envelope(self, envelope: Any) -> None:
            for item in envelope.items:
                report("sentry", item.type, text=str(item.payload.json))

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        traces_sample_rate=1.0,
        transport=Telling,
        auto_enabling_integrations=False,  # it would import whatever is installed, and takes seconds for that
        integrations=[StarletteIntegration(middleware_spans=True), FastApiIntegration(middleware_spans=True)],
    )


outside = os.environ.get("SSE_E2E_OUTSIDE")
if outside == "sentry":  # before the application is made: it changes FastAPI's classes
    init_sentry()

app = fastapi.FastAPI()
app.add_middleware(ServerBridge, express=os.environ["SSE_E2E_BRIDGE"] == "express")


@app.get("/yield", response_class=EventSourceResponse)
async def numbers():
    """Stream numbers, as with fastapi.sse."""
    for n in range(3):
        yield n


app.add_route("/{producer}", stream)

if outside == "opentelemetry":
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor.instrument_app(app)
elif outside == "upper case":
    app.add_middleware(UpperCase)
