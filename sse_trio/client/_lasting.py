# LastingStep: a step that goes on when the task that waits for it gives up. So a timeout ends the wait, not the step.
#
# Rule 1: it runs in a task outside every nursery, and only for a receive() with a timeout. Its owner closes it and
#         waits for its end, so nothing is left behind.
# Rule 2: an error of the step comes out of wait(), even if no task waits at that moment.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from .._loops.current import current_loop
from .._loops.loop import DetachedTask
from .._loops.uninterrupted import wait_uninterrupted

__all__ = ("LastingStep",)


class LastingStep:
    """One step at a time, in a task of its own."""

    def __init__(self) -> None:
        self._done: anyio.Event | None = None
        self._scope = anyio.CancelScope()
        self._error: BaseException | None = None
        # Kept, because a loop keeps only a weak reference (_loops/loop.py).
        self._task: DetachedTask | None = None

    @property
    def is_pending(self) -> bool:
        """Whether a step was started and wait() has not returned its outcome yet."""
        return self._done is not None

    def start(self, step: Callable[[], Awaitable[None]]) -> None:
        """Begin ``step()``. No other step may be pending."""
        self._done, self._scope = anyio.Event(), anyio.CancelScope()
        self._task = current_loop().spawn_detached(partial(self._run, step, self._done))

    async def wait(self) -> None:
        """Wait until the pending step is done, and raise what it raised. Cancellation: it goes on."""
        assert self._done is not None
        await self._done.wait()
        error, self._error, self._done, self._task = self._error, None, None, None
        if error is not None:
            raise error

    async def aclose(self) -> None:
        """Cancel the pending step, if there is one, and wait for its end. Not interrupted by a cancellation."""
        if self._done is not None:
            self._scope.cancel()
            try:
                await wait_uninterrupted(self._done)
            finally:
                self._error = self._done = self._task = None

    async def _run(self, step: Callable[[], Awaitable[None]], done: anyio.Event) -> None:
        try:
            with self._scope:
                await step()
        except anyio.get_cancelled_exc_class():
            raise  # the run ends
        except BaseException as exc:  # noqa: BLE001 -- rule 2
            self._error = exc
        finally:
            done.set()
