# Interruptible: one task waits, and another task may end the wait.
#
# Rule 1: an interruption counts until it is cleared, so it may come before a wait, during it or between two waits.
# Rule 2: an interruption is not a cancellation: the wait ends, and the code after it goes on.

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import anyio

__all__ = ("Interruptible",)


class Interruptible:
    """The waits of one task, which other tasks may interrupt."""

    def __init__(self) -> None:
        self._scope: anyio.CancelScope | None = None
        self._is_interrupted = False

    @property
    def is_waiting(self) -> bool:
        """Whether a wait is under way."""
        return self._scope is not None

    @property
    def is_interrupted(self) -> bool:
        """Whether there was an interruption since the last clear()."""
        return self._is_interrupted

    def interrupt(self) -> None:
        """End the current wait, and every later one at once, until clear(). Call it in the event loop's thread only."""
        self._is_interrupted = True
        if self._scope is not None:
            self._scope.cancel()

    def clear(self) -> None:
        """Forget the interruption, after handling it."""
        self._is_interrupted = False

    @contextmanager
    def scope(self, seconds: float | None = None) -> Generator[anyio.CancelScope, None, None]:
        """Limit a wait to these seconds. If ``cancelled_caught``, the wait was interrupted or took too long."""
        with anyio.move_on_after(seconds) as scope:
            self._scope = scope
            try:
                if self._is_interrupted:
                    scope.cancel()
                yield scope
            finally:
                self._scope = None
