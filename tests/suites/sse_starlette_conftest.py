# What sse-starlette's tests find in their conftest.py, which its sdist lacks: a loop, a client, a flag that is reset.

from __future__ import annotations

import asyncio
import logging

import httpx2
import pytest
import sse_starlette.sse
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.routing import Route

logger = logging.getLogger(__name__)

# Modules that import these have tests of public behaviour, too: only those that call one are to fail.
PRIVATE = ("_ensure_watcher_started_on_this_loop", "_get_shutdown_state", "_get_uvicorn_server", "_shutdown_watcher")


def missing(*args, **kwargs):
    raise NotImplementedError("a private function of sse-starlette's, which the adapter has not")


for name in PRIVATE:
    if not hasattr(sse_starlette.sse, name):
        setattr(sse_starlette.sse, name, missing)


@pytest.fixture
def anyio_backend():
    """Its tests are asyncio's."""
    return "asyncio"


@pytest.fixture(autouse=True)
def reset_shutdown_state():
    """Assign before and after each test what the suite's own fixture assigns."""
    reset(should_exit=False)
    yield
    reset(should_exit=True)


def reset(*, should_exit):
    sse_starlette.sse.AppStatus.should_exit = should_exit
    sse_starlette.sse.AppStatus.enable_automatic_graceful_drain = True
    state = getattr(sse_starlette.sse, "_thread_state", None)  # sse-starlette's own; the adapter has none
    if hasattr(state, "shutdown_state"):
        del state.shutdown_state


async def endless(request):
    async def numbers():
        try:
            for number in range(1, 1_000_000):
                yield {"data": number}
                await asyncio.sleep(0.3)
        except asyncio.CancelledError:
            logger.info("Disconnected from client")
            raise

    return EventSourceResponse(numbers())


@pytest.fixture
async def httpx_client():
    """A client whose application has an endless stream."""
    transport = httpx2.ASGITransport(app=Starlette(routes=[Route("/endless", endless)]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        yield client
