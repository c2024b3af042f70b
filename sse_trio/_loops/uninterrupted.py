# What must be done to its end, whoever cancels: closing a connection, waiting for a task that was cancelled.
#
# Rule 1: a shielded scope keeps out the cancellation of scopes, and not asyncio's own Task.cancel(), as of wait_for()
#         and asyncio.timeout(). So on asyncio the work runs in a task that no one else knows.
# Rule 2: a cancellation that comes meanwhile is raised when the work is done: it is late, and never lost.

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from .current import current_loop, runs_on_trio

__all__ = ("uninterrupted", "wait_uninterrupted")


async def uninterrupted(async_fn: Callable[[], Awaitable[None]]) -> None:
    """Run ``async_fn()`` to its end. Bound it in time: no cancellation ends it.

    Raises:
        BaseException: what it raised; or the cancellation that came meanwhile.
    """
    if runs_on_trio():
        with anyio.CancelScope(shield=True):
            await async_fn()
        return
    work = _Work(async_fn)
    task = current_loop().spawn_detached(work.run)
    await wait_uninterrupted(work.done)
    del task  # kept until here, because a loop keeps only a weak reference
    work.finish()


async def wait_uninterrupted(done: anyio.Event) -> None:
    """Wait for the event. A cancellation that comes meanwhile is raised after it."""
    cancellation: BaseException | None = None
    with anyio.CancelScope(shield=True):
        while not done.is_set():
            try:
                await done.wait()
            except anyio.get_cancelled_exc_class() as exc:
                cancellation = exc
    if cancellation is not None:
        raise cancellation


class _Work:
    """A function that runs in a task of its own, and what it raised."""

    def __init__(self, async_fn: Callable[[], Awaitable[None]]) -> None:
        self.done = anyio.Event()
        self._async_fn = async_fn
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Call the function."""
        try:
            await self._async_fn()
        except BaseException as exc:  # noqa: BLE001 -- finish() raises it
            self._error = exc
        finally:
            self.done.set()

    def finish(self) -> None:
        """Raise what the function raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error
