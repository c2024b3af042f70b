# The notice of a shutdown on servers that have none: the signal handlers that they installed, with ours before them.
#
# uvicorn handles SIGTERM with a Python signal handler and tells the application nothing while streams are open. Its own
# state is looked at as well (_servers/uvicorn_exit.py), but the chain is quicker, and granian has nothing else.
#
# Rule 1: nothing is replaced for good. Ours calls theirs, and theirs is put back when the last stream is gone. Where
#         somebody stands before ours by then, it stays where it is, tells nobody any more, and goes on calling theirs.
# Rule 2: only a handler that somebody installed is chained. Where a signal ends the process by default, or raises
#         KeyboardInterrupt, nobody has promised an orderly end, and it stays like that.
# Rule 3: but in the worker of a server whose parent ends it with SIGTERM, as a part of its shutdown, the default action
#         is put off until the last stream has gone. Then it is taken, unless the server has begun to end by itself.
# Rule 4: only in the main thread, the only one in which Python lets handlers be set.

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


class _Delay:
    # Stands for SIGTERM's default action as long as a chain that goes before it is installed.

    __slots__ = ("came", "chains")

    def __init__(self) -> None:
        self.chains: set[SignalChain] = set()
        self.came = False

    def __call__(self, number: int, _: FrameType | None) -> None:
        self.came = True
        if not self.chains:  # a handler that somebody has set since, and that calls ours, has kept it here
            self.end_process(number)

    def end_process(self, number: int) -> None:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


class SignalChain:
    """Calls `on_signal()` at each SIGINT or SIGTERM, before whatever handles it."""

    __slots__ = ("_delay", "_links", "_on_signal")

    def __init__(self, on_signal: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._links: dict[int, _Link] = {}
        self._delay: _Delay | None = None

    def install(self, *, in_worker: bool = False) -> None:
        """Go before the handlers that are there, if any. Does nothing outside of the main thread.

        In a worker, also go before SIGTERM's default action, and put that off.
        """
        if self._links or threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            previous: Any = signal.getsignal(number)
            if in_worker and number == signal.SIGTERM and previous is signal.SIG_DFL:
                previous = _Delay()
            if callable(previous) and previous is not signal.default_int_handler:
                self._put_off(previous)
                self._links[number] = link = _Link(self._on_signal, previous)
                signal.signal(number, link)

    def _put_off(self, handler: object) -> None:
        while isinstance(handler, _Link):
            handler = handler.previous
        if isinstance(handler, _Delay):
            handler.chains.add(self)
            self._delay = handler

    @property
    def is_put_off(self) -> bool:
        """Whether SIGTERM has come, and would have ended the process."""
        return self._delay is not None and self._delay.came

    def uninstall(self, *, process_ends: bool = False) -> None:
        """Tell nobody any more, and put back what was there, where nobody else has gone before ours.

        A default action that was put off is taken when the last chain goes, unless the process ends in any case.
        """
        delay, self._delay = self._delay, None
        if delay is not None:
            delay.chains.discard(self)
        while self._links:
            number, link = self._links.popitem()
            link.on_signal = None
            _take_out_unused(number)
        if delay is not None and delay.came and not delay.chains and not process_ends:
            delay.end_process(signal.SIGTERM)


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
    return signal.SIG_DFL if isinstance(handler, _Delay) and not handler.chains else handler
