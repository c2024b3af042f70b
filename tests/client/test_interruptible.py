"""Interruptible: one task's waits, ended by others."""

from __future__ import annotations

import anyio
import pytest

from sse_trio.client._interruptible import Interruptible

pytestmark = pytest.mark.anyio


async def test_a_wait_takes_its_time():
    """Without an interruption, the wait gets its result."""
    waits = Interruptible()
    with waits.scope() as scope:
        assert waits.is_waiting
        await anyio.sleep(5)
    assert not scope.cancelled_caught
    assert not waits.is_waiting
    assert anyio.current_time() == 5


async def test_a_wait_has_an_end():
    """A wait that takes too long is cut off, which is not an interruption."""
    waits = Interruptible()
    with waits.scope(3) as scope:
        await anyio.sleep(5)
    assert scope.cancelled_caught
    assert not waits.is_interrupted
    assert anyio.current_time() == 3


async def test_an_interruption_ends_the_wait():
    """An interruption from another task ends the current wait, and stays set until it is cleared."""
    waits = Interruptible()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: _interrupt_at(waits, 2))
        with waits.scope() as scope:
            await anyio.sleep(5)
    assert scope.cancelled_caught
    assert waits.is_interrupted
    with waits.scope() as scope:
        await anyio.sleep(5)
    assert scope.cancelled_caught
    waits.clear()
    with waits.scope() as scope:
        await anyio.sleep(5)
    assert not scope.cancelled_caught
    assert anyio.current_time() == 7


async def _interrupt_at(waits, seconds):
    await anyio.sleep(seconds)
    waits.interrupt()
