# Interruptible: what one task waits for, and another may end.
#
# Rule 1: an interruption counts until it is cleared, so it makes no difference whether it comes before, during or
#         between two waits.
# Rule 2: it is no cancellation from outside: the wait ends, and the code after it goes on.

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import anyio

__all__ = ("Interruptible",)


class Interruptible:
    """The waits of one task, which others may interrupt."""

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
        """End the wait that is under way, and those to come at once. From the event loop's own thread only."""
        self._is_interrupted = True
        if self._scope is not None:
            self._scope.cancel()

    def clear(self) -> None:
        """Forget the interruption: it has been dealt with."""
        self._is_interrupted = False

    @contextmanager
    def scope(self, seconds: float | None = None) -> Generator[anyio.CancelScope, None, None]:
        """Wait in this, for at most so many seconds. Where ``cancelled_caught``, it was interrupted or too long."""
        with anyio.move_on_after(seconds) as scope:
            self._scope = scope
            try:
                if self._is_interrupted:
                    scope.cancel()
                yield scope
            finally:
                self._scope = None
