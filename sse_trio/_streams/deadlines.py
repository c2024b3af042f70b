# Deadlines: what a stream has to do when, and when its ticker has to look at it next.
#
# Rule 1: one ticker for all streams of a run calls tick() (_loops/ticker.py). No event, write or ping has a timer or a
#         scope of its own: a write that takes too long is noticed here.
# Rule 2: what happens once is in `_at`, with its time. What depends on the last write (a ping, the send timeout) is
#         looked at in each tick.

from __future__ import annotations

import math
from enum import Enum
from random import uniform
from time import time
from typing import TYPE_CHECKING

from .._reasons import CloseReason
from .disconnect import WATCH_SECONDS, watch_beside
from .pings import ping_if_due
from .teardown import NO_TIMER, UNTAKEN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Receive

    from .._loops.loop import DetachedTask
    from .._loops.ticker import Entry
    from .teardown import Teardown

__all__ = ("Deadlines",)


class Due(Enum):
    """What happens once, in this order if several are due."""

    CANCEL = "the grace is over: cancel the producers"
    WATCH = "wait for the disconnect in a task"
    REFUSE = "refuse what cancelled producers send"
    GONE = "the client has gone"
    LIFETIME = "end the stream"
    COMMIT = "send the head without an event"

    __hash__ = object.__hash__  # Enum's own is Python code


class Deadlines:
    """The deadlines of one stream (``Timer``)."""

    __slots__ = ("_at", "_path", "_receive", "_stream", "_watcher", "tick_entry")

    def __init__(self, stream: Teardown, receive: Receive, path: str) -> None:
        self._stream = stream
        self._receive = receive
        self._path = path
        self._at: dict[Due, float] | None = None
        self._watcher: DetachedTask | None = None
        self.tick_entry: Entry | None = None

    def begin(self, opened_at: float, *, has_producers: bool) -> None:
        """Set the deadlines of a stream that was opened then."""
        options = self._stream.options
        at = self._at = {} if self._at is None else self._at
        if has_producers:
            at[Due.WATCH] = opened_at + WATCH_SECONDS
        if options.commit_within is not None:
            at[Due.COMMIT] = opened_at + options.commit_within
        ends_at = math.inf
        if options.max_lifetime is not None:
            ends_at = opened_at + uniform(0.8, 1.0) * options.max_lifetime  # noqa: S311 -- a spread, not a secret
        if options.expires_at is not None:  # by the clock as it is now, which may be a pass later
            ends_at = min(ends_at, self._stream.writer.outlet.current_time() + max(0.0, options.expires_at - time()))
        if ends_at != math.inf:
            at[Due.LIFETIME] = ends_at
        # The same as calling tick(), but cheaper. Most short streams end before the first tick.
        silence = min(options.ping or math.inf, options.send_timeout or math.inf)
        self.look_at(min(opened_at + silence, *at.values()))

    def close(self) -> None:
        """Do nothing more, and end the wait for the disconnect."""
        self._stream.timer = NO_TIMER
        if self.tick_entry is not None:
            self._stream.run.ticker.discard(self)
        if self._watcher is not None:
            self._stream.run.loop.cancel_detached(self._watcher)
            self._watcher = None

    # --- what the end of a stream asks (``Timer``)

    def cancel_at(self, at: float, /) -> None:
        """Cancel the producers then: their grace is over."""
        self._set(Due.CANCEL, at)

    def refuse_at(self, at: float, /) -> None:
        """Refuse what the producers send from then on."""
        if self._at is None or Due.REFUSE not in self._at:
            self._set(Due.REFUSE, at)

    def gone_at(self, at: float, /) -> None:
        """End the stream then: its client is gone."""
        self._set(Due.GONE, at)

    def look_at(self, at: float, /) -> None:
        """Look at everything then."""
        self._stream.run.ticker.schedule(self, at)

    def _set(self, due: Due, at: float) -> None:
        if self._at is None:
            self._at = {}
        self._at[due] = at
        self.look_at(at)

    # --- when its time has come

    def tick(self, now: float) -> float:
        """Do what is due now; return the earliest time at which something else can be due."""
        if self._at is not None:
            self._do_due(self._at, now)
        later = () if self._at is None else self._at.values()
        return min(self._tick_write(now), ping_if_due(self._stream, now), *later)

    def _do_due(self, at: dict[Due, float], now: float) -> None:
        for due in Due:
            if at.get(due, math.inf) <= now:
                del at[due]
                self._do(due)
        if not at:
            self._at = None  # an idle stream keeps no table

    def _do(self, due: Due) -> None:
        stream = self._stream
        if due is Due.CANCEL:
            stream.cancel()
        elif due is Due.WATCH:
            self._watch_disconnect()
        elif due is Due.REFUSE:
            stream.source.refuse_sends()
        elif due is Due.COMMIT:
            stream.source.started = True
            stream.writer.unpark()
        else:
            stream.end(CloseReason.DISCONNECTED if due is Due.GONE else CloseReason.LIFETIME)

    def _watch_disconnect(self) -> None:
        # A copy: what is around `receive` may send to this stream, and a send() that writes at once enters the context
        # of the writer, so nobody may be in that. An eager task (Python 3.12) would stop the loop of asyncio for ever.
        context = self._stream.writer.context
        copied = None if context is None else context.copy()  # an empty context is false
        self._watcher = self._stream.run.loop.spawn_detached(self._watch, context=copied)

    def _watch(self) -> Awaitable[None]:
        return watch_beside(self._stream, self._receive, self._path)

    def _tick_write(self, now: float) -> float:
        stream = self._stream
        outlet, seconds = stream.writer.outlet, stream.options.send_timeout or math.inf
        if stream.reason is CloseReason.CANCELLED and outlet.connection.is_lost is None:
            seconds = min(seconds, UNTAKEN_SECONDS)
        if stream.lost is not None or seconds == math.inf:
            return math.inf
        began = outlet.write_began
        if began is None:
            return now + seconds  # a write that begins later is due later
        if began + seconds <= now:
            stream.end(CloseReason.SEND_TIMEOUT)
            return math.inf
        return began + seconds
