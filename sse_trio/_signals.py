# The notice of a shutdown on servers that have none: the signal handlers that they installed, with ours before them.
#
# uvicorn handles SIGTERM with a Python signal handler and tells the application nothing while streams are open.
#
# Rule 1: nothing is replaced for good. Ours calls theirs, and theirs is put back when the last stream is gone, if
#         ours is still there then.
# Rule 2: only a handler that somebody installed is chained. Where a signal ends the process by default, or raises
#         KeyboardInterrupt, nobody has promised an orderly end, and it stays like that.
# Rule 3: only in the main thread, the only one in which Python lets handlers be set.

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ("SignalChain",)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalChain:
    """Calls `on_signal()` at the first SIGINT or SIGTERM, before whatever handles it."""

    __slots__ = ("_handle", "_on_signal", "_previous")

    def __init__(self, on_signal: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._handle = self._call_both  # one object, to be recognised by
        self._previous: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def install(self) -> None:
        """Go before the handlers that are there, if any. Does nothing outside of the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            previous = signal.getsignal(number)
            if callable(previous) and previous is not signal.default_int_handler:
                self._previous[number] = previous
                signal.signal(number, self._handle)

    def uninstall(self) -> None:
        """Put back what was there, where nobody else has taken our place."""
        while self._previous:
            number, previous = self._previous.popitem()
            if signal.getsignal(number) is self._handle:
                signal.signal(number, previous)

    def _call_both(self, number: int, frame: FrameType | None) -> None:
        self._on_signal()
        self._previous[number](number, frame)
