# The task group that the applications of a test run in.

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup

__all__ = ("open_task_group",)

_OTHER_TASK = (
    "open_test_stream() and StreamingASGITransport must be left in the task that entered them, which holds the "
    "application's tasks; pytest-asyncio leaves an async fixture in another one. Write `async with` in the test, or "
    "have anyio's pytest plugin run test and fixture: `@pytest.mark.anyio`, and asyncio_mode=strict"
)


@asynccontextmanager
async def open_task_group() -> AsyncGenerator[TaskGroup, None]:
    """Open a task group for exchanges; leaving it cancels them.

    Exchanges raise nothing, so the group is closed as if the block had not raised either. An exception of the block
    goes on unchanged, not in a group of one.
    """
    task_group = anyio.create_task_group()
    await task_group.__aenter__()
    holder = anyio.get_current_task()
    try:
        yield task_group
    finally:
        task_group.cancel_scope.cancel()
        if anyio.get_current_task() != holder:
            raise RuntimeError(_OTHER_TASK)
        await task_group.__aexit__(None, None, None)
