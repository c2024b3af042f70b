# GroupRun: a StreamGroup's open streams in one event loop. GroupState: what the group keeps between event loops.
#
# Rule 1: a StreamGroup may be made anywhere and used in one event loop after another. Everything that belongs to an
#         event loop is in a GroupRun, which is made when the group is first used in that loop.
# Rule 2: request_shutdown() and withdraw_shutdown() of GroupState may be called from any thread and from a signal
#         handler. Everything in GroupRun is called from the loop's own thread.
# Rule 3: each stream counts for itself. GroupRun keeps the sums of the streams that have ended.

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias

from anyio import Event
from anyio.lowlevel import checkpoint

from .._loops.current import current_loop
from .._loops.loop import DetachedTask, Loop
from .._loops.ticker import Ticker
from .._reasons import CloseReason
from .._servers.connection import ServerShutdown
from .._servers.lookup_cache import KnownServers
from .._wire.event import ServerSentEvent
from ..stores._kicks import Kick
from .admission import Admission, Limits, Place
from .kickable import add_kickable
from .shutdown_watch import ShutdownWatch, is_shut_down_within
from .signals import SignalChain
from .statistics import StreamObserver, StreamStatistics, StreamTotals

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ("Farewell", "GroupMember", "GroupRun", "GroupState")

logger = logging.getLogger("sse_trio")

Farewell: TypeAlias = ServerSentEvent | Callable[[CloseReason], ServerSentEvent | None]

ENDS_WITHIN = 0.5
"""Seconds. When a server's parent process ends a worker, the worker's own server hears of it within this time."""


class GroupMember(Protocol):
    """A stream, as its group uses it."""

    number: int
    server_shutdown: ServerShutdown | None

    @property
    def labels(self) -> Mapping[str, str]:
        """The ``labels`` of its response."""
        ...

    @property
    def in_worker(self) -> bool:
        """Whether the server of this process leaves SIGTERM to its default action."""
        ...

    def end(self, reason: CloseReason, /) -> None:
        """Begin to end. Does nothing if the stream is ending already."""

    def statistics(self, now: float) -> StreamStatistics:
        """Return a snapshot."""
        ...

    def add_to(self, totals: StreamTotals) -> None:
        """Add what the stream has counted to these totals."""


@dataclass(slots=True, kw_only=True, eq=False)
class GroupState:
    """A group's options and observers, whether it is shutting down, and its run in the latest event loop."""

    name: str
    shutdown_grace: float
    reconnect_within: float | None
    farewell: Farewell | None
    limits: Limits | None
    signals: bool
    observers: tuple[StreamObserver, ...] = ()
    shutdown_requested: bool = False
    run: GroupRun | None = None

    def bound_run(self) -> GroupRun:
        """Return the group's run in the running event loop."""
        loop, run = current_loop(), self.run
        if run is not None and run.loop is loop:
            return run
        if run is not None:
            if run.streams:
                msg = "this StreamGroup has streams in another event loop; make one StreamGroup for each event loop"
                raise RuntimeError(msg)
            self.shutdown_requested = False  # the shutdown was that of an earlier server
        run = self.run = GroupRun(self, loop, SignalChain(self.request_shutdown) if self.signals else None)
        add_kickable(run)
        if self.shutdown_requested:
            run.shutdown.set()
        return run

    def request_shutdown(self) -> None:
        """End all open streams, and each new one at once."""
        self.shutdown_requested = True
        run = self.run
        if run is not None:
            run.loop.call_soon_threadsafe(run.begin_shutdown)

    def withdraw_shutdown(self) -> None:
        """Let streams open again. Streams that are ending go on ending."""
        self.shutdown_requested = False
        run = self.run
        if run is not None:
            run.loop.call_soon_threadsafe(run.forget_shutdown)


class GroupRun:
    """A group's open streams in one event loop. Each stream keeps a reference to it.

    It has 15 attributes, and a weak reference: it is where everything of a group is that belongs to one loop.
    """

    __slots__ = (
        "__weakref__",
        "_empty",
        "_has_signals",
        "admission",
        "closed",
        "ending",
        "loop",
        "opened",
        "servers",
        "shutdown",
        "signals",
        "state",
        "streams",
        "ticker",
        "totals",
        "watch",
    )

    def __init__(self, state: GroupState, loop: Loop, signals: SignalChain | None) -> None:
        self.state: GroupState = state
        self.loop: Loop = loop
        self.ticker: Ticker = Ticker(loop)
        self.signals: SignalChain | None = signals
        self._has_signals = False
        self.admission: Admission | None = None if state.limits is None else Admission(state.limits)
        self.ending: DetachedTask | None = None
        self.streams: set[GroupMember] = set()
        self.watch: ShutdownWatch = ShutdownWatch(loop, self.ticker, self._server_shuts_down)
        self.servers: KnownServers = KnownServers()
        self.opened: int = 0
        self.closed: Counter[CloseReason] = Counter()
        self.totals: StreamTotals = StreamTotals()
        self.shutdown: Event = Event()
        self._empty: Event | None = None  # there only while a task waits for it

    def enter(self, make_request: Callable[[], Request]) -> Place | None:
        """Admit a stream. Call add() with it before the next checkpoint.

        Returns:
            The stream's place among those of its key, which it has to leave; ``None`` if it has no key.

        Raises:
            StreamRefusedError: the stream exceeds a limit. Not during a shutdown, when each new stream is ended at
                once.
        """
        if self.admission is None or self.state.shutdown_requested:
            return None
        return self.admission.enter(len(self.streams), self.loop.current_time(), make_request)

    def add(self, stream: GroupMember) -> None:
        """Add a stream that opens; end it at once during a shutdown."""
        self.streams.add(stream)
        self.opened += 1
        stream.number = self.opened
        server_shutdown = stream.server_shutdown
        if self.state.shutdown_requested or (server_shutdown is not None and server_shutdown.is_set()):
            stream.end(CloseReason.SHUTDOWN)

    def watch_over(self, stream: GroupMember) -> None:
        """Notice from now on when this stream, which was added, has to end: by a signal, or its server's shutdown."""
        if self.signals is not None and not self._has_signals:
            self._has_signals = True
            self.signals.install(in_worker=stream.in_worker)
        if stream.server_shutdown is not None:
            self.watch.add(stream.server_shutdown)

    async def wait_empty(self) -> None:
        """Wait until no stream is open. A checkpoint."""
        if not self.streams:
            await checkpoint()
            return
        if self._empty is None:
            self._empty = Event()
        await self._empty.wait()

    def discard(self, stream: GroupMember, reason: CloseReason) -> None:
        """Remove a stream that has ended."""
        self.streams.discard(stream)
        self.closed[reason] += 1
        stream.add_to(self.totals)
        if self.state.observers:
            self._call_observers(stream)
        if not self.streams:
            self._became_empty(stream.server_shutdown)

    def _call_observers(self, stream: GroupMember) -> None:
        statistics = stream.statistics(self.loop.current_time())
        for observer in self.state.observers:
            try:
                observer.stream_closed(statistics)
            except Exception:
                logger.exception("the observer %r raised; the stream is not affected", observer)

    def _server_shuts_down(self, server_shutdown: ServerShutdown) -> None:
        self.end_all(lambda stream: stream.server_shutdown is server_shutdown)

    def end_all(self, predicate: Callable[[GroupMember], bool], reason: CloseReason = CloseReason.SHUTDOWN) -> None:
        """End the streams for which the predicate is true."""
        for stream in [stream for stream in self.streams if predicate(stream)]:
            stream.end(reason)

    def obey(self, kick: Kick) -> None:
        """End the streams that a kick chooses which came through a hub."""
        self.end_all(lambda stream: kick.chooses(stream.labels, self.state.name), CloseReason.KICKED)

    def begin_shutdown(self) -> None:
        """Wake the tasks that wait for a shutdown, and end all streams."""
        self.shutdown.set()
        self.end_all(lambda _: True)

    def forget_shutdown(self) -> None:
        """Have tasks wait for the next shutdown."""
        if self.shutdown.is_set():
            self.shutdown = Event()

    def _became_empty(self, server_shutdown: ServerShutdown | None) -> None:
        self.ticker.clear()
        self.watch.clear()
        if self.signals is not None and self._has_signals:
            self._has_signals = False
            if self.signals.is_delayed:
                self.ending = self.loop.spawn_detached(partial(self._end_process, self.signals, server_shutdown))
            else:
                self.signals.uninstall()
        if self._empty is not None:
            self._empty.set()
            self._empty = None

    async def _end_process(self, signals: SignalChain, server_shutdown: ServerShutdown | None) -> None:
        server_ends_it = await is_shut_down_within(ENDS_WITHIN, server_shutdown)
        if not self.streams:
            signals.uninstall(process_ends=server_ends_it)
