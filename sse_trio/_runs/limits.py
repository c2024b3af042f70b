# What may end a run besides its producer and stop(): its size, and that nobody watches it.

from __future__ import annotations

import math
from typing import final

from anyio import Event, current_time, move_on_after

from .ending import RunReason

__all__ = ("Attendance", "RunSize", "RunTooLargeError")


class RunTooLargeError(Exception):
    """A run has sent more than it may keep."""

    def __init__(self, reason: RunReason, message: str) -> None:
        super().__init__(message)
        self.reason: RunReason = reason


@final
class RunSize:
    """The events and bytes of a run, and the most that it may keep."""

    def __init__(self, max_events: int | None, max_bytes: int | None) -> None:
        self._max_events = math.inf if max_events is None else max_events
        self._max_bytes = math.inf if max_bytes is None else max_bytes
        self.events: int = 0
        self._bytes = 0

    def add(self, size: int) -> None:
        """Count an event of this size in. RunTooLargeError if it is one too many, or too large."""
        self.events += 1
        self._bytes += size
        if self.events > self._max_events:
            raise RunTooLargeError("max_events", f"it has sent more events than max_events={self._max_events}")
        if self._bytes > self._max_bytes:
            raise RunTooLargeError("max_bytes", f"it has sent more bytes than max_bytes={self._max_bytes}")


@final
class Attendance:
    """The watchers of a run: those of this process are counted, those of others say so again and again."""

    def __init__(self) -> None:
        self.watchers: int = 0
        """Responses of this process that watch it."""
        self._seen_at = current_time()
        self._changed = Event()

    def change(self, by: int) -> None:
        """Count a watcher of this process in (1) or out (-1), or note that another process has one (0)."""
        self.watchers += by
        self._seen_at = current_time()
        self._changed.set()
        self._changed = Event()

    async def wait_unwatched(self, seconds: float) -> None:
        """Return when nobody has watched it for so long."""
        while True:
            left = math.inf if self.watchers else self._seen_at + seconds - current_time()
            if left <= 0:
                return
            with move_on_after(left):
                await self._changed.wait()
