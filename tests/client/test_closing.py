"""Closing a connection, whoever cancels meanwhile: a cancel scope, or on asyncio Task.cancel()."""

from __future__ import annotations

import asyncio

import anyio
import httpx
import pytest

from sse_trio._loops.current import runs_on_trio
from sse_trio.client import open_event_source

pytestmark = pytest.mark.anyio


async def cancelled_at(seconds, async_fn, server):
    """Run the function in a task and cancel that: with Task.cancel() on asyncio, which no scope keeps out."""
    if runs_on_trio():
        with anyio.move_on_after(seconds):
            await async_fn(server)
    else:
        task = asyncio.ensure_future(async_fn(server))
        await anyio.sleep_until(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def iterate(server):
    async with server.client() as client, open_event_source("/", client=client, retry=0.1) as source:
        async for _ in source:
            pass


async def leave(server):
    async with server.client() as client, open_event_source("/", client=client) as source:
        await anext(source)


async def receive(server):
    async with server.client() as client, open_event_source("/", client=client) as source:
        await anext(source)
        with pytest.raises(TimeoutError):
            await source.receive(timeout=0)


@pytest.mark.parametrize(
    ("use", "pieces", "options", "closed_at"),
    [
        pytest.param(iterate, (1,), {}, 4, id="ended"),
        pytest.param(iterate, (1, httpx.ReadError("reset")), {}, 4, id="broken"),
        pytest.param(iterate, (1, "x"), {"status": 503}, 4, id="refused"),
        pytest.param(iterate, (), {"status": 204}, 3, id="stopped"),
        pytest.param(iterate, (), {"status": 307, "location": "/"}, 3, id="redirected"),
        pytest.param(iterate, (), {"content_encoding": "unknown"}, 3, id="undecodable"),
        pytest.param(leave, (1, "data: x\n\n", 100), {}, 4, id="left"),
        pytest.param(receive, (1, "data: x\n\n", 100), {}, 4, id="left while a task waits"),
    ],
)
async def test_a_cancellation_does_not_interrupt_closing(serve, stream, use, pieces, options, closed_at):
    """A connection that is being closed is closed, whoever cancels, and the cancellation comes after that."""
    server = serve(stream(*pieces, **options))
    server.close_seconds = 3
    await cancelled_at(2.5, use, server)
    assert server.open_bodies == 0
    assert anyio.current_time() == closed_at
