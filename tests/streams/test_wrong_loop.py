"""trio's functions on an asyncio server, and asyncio's on a trio server: the error says which server to use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio

from sse_trio import EventSendChannel, EventSourceResponse
from sse_trio.testing import open_test_stream

pytestmark = pytest.mark.anyio


async def open_a_nursery() -> None:
    """Open one, which needs a trio loop."""
    async with trio.open_nursery():
        pass


async def find_the_loop() -> None:
    """Ask for the loop, as libraries for asyncio do."""
    asyncio.get_running_loop()


TRIO: list[Callable[[], Awaitable[object]]] = [lambda: trio.sleep(1), lambda: trio.Event().wait(), open_a_nursery]
ASYNCIO: list[Callable[[], Awaitable[object]]] = [
    lambda: asyncio.sleep(1),
    find_the_loop,
    lambda: asyncio.Event().wait(),
]


async def notes_of(function: Callable[[], Awaitable[object]], **options: Any) -> str:
    """The notes of the error that a producer raises which awaits this."""

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("first")
        await function()

    async with open_test_stream(EventSourceResponse(produce, **options)) as stream:
        with pytest.raises(Exception) as info:
            await stream.wait_closed()
    members = getattr(info.value, "exceptions", (info.value,))
    return " ".join(note for member in members for note in getattr(member, "__notes__", ()))


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("function", TRIO)
async def test_trio_on_an_asyncio_server(function: Callable[[], Awaitable[object]]) -> None:
    """The error of a trio function names the server with trio, and anyio's function."""
    notes = await notes_of(function)
    assert "hypercorn --worker-class trio" in notes
    assert "anyio.sleep() for trio.sleep()" in notes


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
@pytest.mark.parametrize("function", ASYNCIO)
async def test_asyncio_on_a_trio_server(function: Callable[[], Awaitable[object]]) -> None:
    """The error of an asyncio function names the server with asyncio, and anyio's function."""
    notes = await notes_of(function)
    assert "uvicorn" in notes
    assert "anyio.sleep() for asyncio.sleep()" in notes


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_several_producers() -> None:
    """Among several failures, the one that comes from the wrong loop is explained."""

    async def fail() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise LookupError("beside")

    assert (await notes_of(TRIO[0], producers=[fail])).count("hypercorn") == 1


async def test_other_errors_have_no_note() -> None:
    """An error that has another cause stays as it is, even with the same text."""

    async def fail() -> None:
        raise RuntimeError("must be called from async context")

    async def fail_otherwise() -> None:
        raise AttributeError("no attribute")

    async def fail_to_look_up() -> None:
        raise LookupError("no running event loop")

    for function in (fail, fail_otherwise, fail_to_look_up):
        assert not await notes_of(function)
