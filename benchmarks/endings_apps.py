"""The same four streams, for each library: what endings.py serves. The library is named by LIBRARY in the environment.

- `/idle` sends one event and waits; `/flood` sends as fast as it can; both note in the file NOTES that they cleaned up.
- `/missing` raises HTTPException(404) before its first event; `/five` raises after five.
"""

from __future__ import annotations

import os
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

LARGE = "x" * 60_000


def note_cleanup():
    with Path(os.environ["NOTES"]).open("a") as notes:
        notes.write("cleaned up\n")


async def idle():
    try:
        yield "first"
        await anyio.sleep_forever()
    finally:
        note_cleanup()


async def flood():
    try:
        while True:
            yield LARGE
    finally:
        note_cleanup()


async def missing():
    raise HTTPException(404)
    yield


async def five():
    for n in range(5):
        yield str(n)
    raise RuntimeError("after five")


def sse_starlette():
    from sse_starlette import EventSourceResponse

    def endpoint_for(stream):
        async def endpoint(request):
            return EventSourceResponse(stream(), send_timeout=1)

        return endpoint

    return Starlette(
        routes=[Route(f"/{stream.__name__}", endpoint_for(stream)) for stream in (idle, flood, missing, five)]
    )


def fastapi():
    from fastapi import FastAPI
    from fastapi.sse import EventSourceResponse, ServerSentEvent

    app = FastAPI()

    @app.get("/idle", response_class=EventSourceResponse)
    async def _idle():
        try:
            yield ServerSentEvent(raw_data="first")
            await anyio.sleep_forever()
        finally:
            note_cleanup()

    @app.get("/flood", response_class=EventSourceResponse)
    async def _flood():
        try:
            while True:
                yield ServerSentEvent(raw_data=LARGE)
        finally:
            note_cleanup()

    @app.get("/missing", response_class=EventSourceResponse)
    async def _missing():
        raise HTTPException(404)
        yield

    @app.get("/five", response_class=EventSourceResponse)
    async def _five():
        for n in range(5):
            yield ServerSentEvent(raw_data=str(n))
        raise RuntimeError("after five")

    return app


def sse_trio():
    from sse_trio import EventSourceResponse, ServerBridge

    async def idle(send_channel):
        try:
            await send_channel.send("first")
            await anyio.sleep_forever()
        finally:
            note_cleanup()

    async def flood(send_channel):
        try:
            while True:
                await send_channel.send(LARGE)
        finally:
            note_cleanup()

    async def missing(send_channel):
        raise HTTPException(404)

    async def five(send_channel):
        for n in range(5):
            await send_channel.send(str(n))
        raise RuntimeError("after five")

    def endpoint_for(producer):
        async def endpoint(request):
            return EventSourceResponse(producer, send_timeout=1)

        return endpoint

    streams = (idle, flood, missing, five)
    return ServerBridge(Starlette(routes=[Route(f"/{stream.__name__}", endpoint_for(stream)) for stream in streams]))


app = {"sse_trio": sse_trio, "sse_starlette": sse_starlette, "fastapi": fastapi}[os.environ["LIBRARY"]]()
