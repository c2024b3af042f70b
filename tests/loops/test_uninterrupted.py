"""What is done to its end, whoever cancels."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from sse_trio._loops.current import runs_on_trio
from sse_trio._loops.uninterrupted import uninterrupted, wait_uninterrupted

pytestmark = pytest.mark.anyio


async def test_what_the_work_raises_comes_out() -> None:
    """What the work raises comes out; what it does is done when the call returns."""
    done: list[str] = []

    async def work() -> None:
        await anyio.sleep(1)
        done.append("work")

    async def fail() -> None:
        raise LookupError("of the work")

    await uninterrupted(work)
    assert done == ["work"]
    with pytest.raises(LookupError, match="of the work"):
        await uninterrupted(fail)


@pytest.mark.parametrize("waits", ["for work", "for an event"])
async def test_a_cancellation_comes_after_the_work(waits: str) -> None:
    """However often the task is cancelled, the work goes on to its end, and then the cancellation is raised."""
    log: list[object] = []
    done = anyio.Event()

    async def work() -> None:
        await anyio.sleep(5)
        log.append(anyio.current_time())
        done.set()

    async def use() -> None:
        try:
            await (uninterrupted(work) if waits == "for work" else wait_uninterrupted(done))
            await anyio.lowlevel.checkpoint()  # where a scope's cancellation is raised
        except anyio.get_cancelled_exc_class():
            log.append("cancelled")
            raise

    async with anyio.create_task_group() as others:
        if waits == "for an event":
            others.start_soon(work)
        if runs_on_trio():
            with anyio.move_on_after(1):
                await use()
        else:
            task = asyncio.ensure_future(use())
            for _ in range(2):
                await anyio.sleep(1)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert log == [5, "cancelled"]
