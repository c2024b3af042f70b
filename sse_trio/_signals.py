# The notice of a shutdown on servers that have none: the signal handlers that they installed, with ours before them.
#
# uvicorn handles SIGTERM with a Python signal handler and tells the application nothing while streams are open.
#
# Rule 1: nothing is replaced for good. Ours calls theirs, and theirs is put back when the last stream is gone. Where
#         somebody stands before ours by then, it stays where it is, tells nobody any more, and goes on calling theirs.
# Rule 2: only a handler that somebody installed is chained. Where a signal ends the process by default, or raises
#         KeyboardInterrupt, nobody has promised an orderly end, and it stays like that.
# Rule 3: only in the main thread, the only one in which Python lets handlers be set.

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

__all__ = ("SignalChain",)

_Handler: TypeAlias = Callable[[int, FrameType | None], Any]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Link:
    # One handler of ours, for one signal. Never used again: in the same place twice it would call itself.

    __slots__ = ("on_signal", "previous")

    def __init__(self, on_signal: Callable[[], None], previous: _Handler) -> None:
        self.on_signal: Callable[[], None] | None = on_signal
        self.previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.on_signal is not None:
            self.on_signal()
        self.previous(number, frame)


class SignalChain:
    """Calls `on_signal()` at each SIGINT or SIGTERM, before whatever handles it."""

    __slots__ = ("_links", "_on_signal")

    def __init__(self, on_signal: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._links: dict[int, _Link] = {}

    def install(self) -> None:
        """Go before the handlers that are there, if any. Does nothing outside of the main thread."""
        if self._links or threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            previous = signal.getsignal(number)
            if callable(previous) and previous is not signal.default_int_handler:
                self._links[number] = link = _Link(self._on_signal, previous)
                signal.signal(number, link)

    def uninstall(self) -> None:
        """Tell nobody any more, and put back what was there, where nobody else has gone before ours."""
        while self._links:
            number, link = self._links.popitem()
            link.on_signal = None
            _take_out_unused(number)


def _take_out_unused(number: int) -> None:
    # Of every chain, and as far down as it can be seen: or two groups that come and go by turns would leave more and
    # more links behind.
    handler = signal.getsignal(number)
    used = _first_used(handler)
    if used is not handler:
        signal.signal(number, used)
    while isinstance(used, _Link):
        used.previous = _first_used(used.previous)
        used = used.previous


def _first_used(handler: Any) -> Any:  # whatever signal.getsignal() may return
    while isinstance(handler, _Link) and handler.on_signal is None:
        handler = handler.previous
    return handler
