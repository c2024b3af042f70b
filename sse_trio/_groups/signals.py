# SignalChain: calls our handler for SIGINT and SIGTERM, and then the handler that the server installed.
#
# uvicorn handles SIGTERM in Python and tells the application nothing while streams are open. We also look at its state
# (_servers/uvicorn_exit.py), but the signal arrives sooner, and with granian it is all there is.
#
# Rule 1: nothing is replaced for good. Our handler calls the server's, which is put back when the last stream has
#         ended. If other code has installed a handler over ours by then, ours stays in place, stops calling the
#         group, and goes on calling the server's.
# Rule 2: only an installed handler is chained. If a signal ends the process by default, or raises KeyboardInterrupt,
#         no orderly end was promised, and none is added.
# Rule 3: one exception: if a server's parent process ends its workers with SIGTERM as a part of its shutdown, a worker
#         delays the default action until its last stream has ended. Then it takes it, unless the server is ending the
#         process.
# Rule 4: Python lets only the main thread set signal handlers, so this does nothing in other threads.

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
    # Our handler for one signal. It is installed once only: installed a second time, it would call itself.

    __slots__ = ("on_signal", "previous")

    def __init__(self, on_signal: Callable[[], None], previous: _Handler) -> None:
        self.on_signal: Callable[[], None] | None = on_signal
        self.previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.on_signal is not None:
            self.on_signal()
        self.previous(number, frame)


class _Delay:
    # Takes the place of SIGTERM's default action while a chain is installed over it.

    __slots__ = ("came", "chains")

    def __init__(self) -> None:
        self.chains: set[SignalChain] = set()
        self.came = False

    def __call__(self, number: int, _: FrameType | None) -> None:
        self.came = True
        if not self.chains:  # a handler that was installed over ours has kept it in place
            self.end_process(number)

    def end_process(self, number: int) -> None:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


class SignalChain:
    """Calls `on_signal()` at each SIGINT or SIGTERM, before the installed handler."""

    __slots__ = ("_delay", "_links", "_on_signal")

    def __init__(self, on_signal: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._links: dict[int, _Link] = {}
        self._delay: _Delay | None = None

    def install(self, *, in_worker: bool = False) -> None:
        """Chain the installed handlers, if any. Does nothing outside the main thread.

        In a worker, SIGTERM's default action is chained too, and delayed.
        """
        if self._links or threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            previous: Any = signal.getsignal(number)
            if in_worker and number == signal.SIGTERM and previous is signal.SIG_DFL:
                previous = _Delay()
            if callable(previous) and previous is not signal.default_int_handler:
                self._delay_default(previous)
                self._links[number] = link = _Link(self._on_signal, previous)
                signal.signal(number, link)

    def _delay_default(self, handler: object) -> None:
        while isinstance(handler, _Link):
            handler = handler.previous
        if isinstance(handler, _Delay):
            handler.chains.add(self)
            self._delay = handler

    @property
    def is_delayed(self) -> bool:
        """Whether a SIGTERM arrived whose default action is delayed."""
        return self._delay is not None and self._delay.came

    def uninstall(self, *, process_ends: bool = False) -> None:
        """Stop calling `on_signal()`, and put the earlier handlers back where ours is the outermost.

        The last chain takes a delayed default action, unless the process ends without it.
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
    # Removes the unused links of all chains, not only ours. Otherwise two groups that come and go in turns would leave
    # more and more links behind.
    handler = signal.getsignal(number)
    used = _first_used(handler)
    if used is not handler:
        signal.signal(number, used)
    while isinstance(used, _Link):
        used.previous = _first_used(used.previous)
        used = used.previous


def _first_used(handler: Any) -> Any:  # anything that signal.getsignal() returns
    while isinstance(handler, _Link) and handler.on_signal is None:
        handler = handler.previous
    return signal.SIG_DFL if isinstance(handler, _Delay) and not handler.chains else handler
