# StreamGroup: every open stream of an application, to be counted, kicked, and ended when the server goes.
#
# Rule 1: no server says http.disconnect to open streams when it shuts down, and lifespan.shutdown comes only after
#         they are gone. So streams hear of it here: by request_shutdown(), by a chained signal handler, or by the
#         server's own event or state where it can be reached (which ends that server's streams, not another's).
# Rule 2: a group may be made anywhere; what belongs to an event loop is in a GroupRun, made at the first use in it.
# Rule 3: request_shutdown() may come from any thread or signal handler, and statistics() from any thread, as that of a
#         metrics exporter; all else from the loop's own thread.
# Rule 4: a stream counts for itself. What those that have ended counted is kept here, added up.
# Rule 5: a stream that is one too many is none: it is refused before it is made (_groups/admission.py). One that comes
#         to a shutdown is opened and ended at once, so that its client hears when to come again, and from whom.

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, final

from anyio import Event
from anyio.lowlevel import RunVar, checkpoint

from .._arguments.checks import check_count, check_flag, check_function, check_grace, check_seconds, check_text, wrong
from .._loops.current import current_loop
from .._loops.loop import DetachedTask, Loop
from .._loops.ticker import Ticker, Ticking
from .._reasons import CloseReason, RefusalReason
from .._servers.connection import ServerShutdown
from .._wire.event import ServerSentEvent
from .._wire.returned import check_farewell, returned_bool
from .admission import Admission, KeyFunction, Limits, Place
from .shutdown_watch import ShutdownWatch, is_shut_down_within
from .signals import SignalChain
from .statistics import StreamObserver, StreamStatistics, StreamTotals

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ("GroupMember", "GroupRun", "StreamGroup", "StreamGroupStatistics", "current_run")

logger = logging.getLogger("sse_trio")

ENDS_WITHIN = 0.5
"""Seconds within which a worker that its parent has ended hears of that from the parent, too."""
REFUSED_WITHIN = 10.0
"""Seconds over which those who are refused are spread, where the group spreads no reconnects."""

LONGEST_RECONNECT = 86_400.0 * 365
"""Seconds: beyond that no client would come back."""

Farewell = ServerSentEvent | Callable[[CloseReason], ServerSentEvent | None]


class GroupMember(Ticking, Protocol):
    """What a group asks of a stream."""

    number: int
    labels: Mapping[str, str]
    server_shutdown: ServerShutdown | None

    @property
    def in_worker(self) -> bool:
        """Whether this process's server leaves SIGTERM to its default action."""
        ...

    def end(self, reason: CloseReason, /) -> None:
        """Begin to end; nothing if it has begun."""

    def statistics(self, now: float) -> StreamStatistics:
        """Return a snapshot."""
        ...

    def add_to(self, totals: StreamTotals) -> None:
        """Add what it has counted."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamGroupStatistics:
    """A snapshot of a group. What is counted is counted since the group's first use in this event loop."""

    name: str
    """As given to the group."""
    open_streams: int
    """Streams that are open now."""
    opened: int
    """Streams that were opened."""
    closed: Mapping[CloseReason, int]
    """Streams that have ended, by reason."""
    refused: Mapping[RefusalReason, int]
    """Streams that were one too many, by the limit; these were never opened."""
    written_events: int
    """Events that were given to the server."""
    written_bytes: int
    """Bytes that were given to the server, pings included, headers not."""
    dropped: int
    """Events that clients missed, by the overflow policies of channels and subscriptions."""
    stalls: int
    """Writes that took a second or longer, those under way included."""
    stalled: int
    """Streams in such a write now."""
    shutdown_requested: bool
    """Whether new streams are ended at once."""


class GroupRun:
    """A group's life in one event loop. A stream keeps hold of it."""

    __slots__ = (
        "admission",
        "closed",
        "empty",
        "ending",
        "group",
        "loop",
        "opened",
        "shutdown",
        "signals",
        "streams",
        "ticker",
        "totals",
        "watch",
    )

    def __init__(self, group: StreamGroup, loop: Loop, signals: SignalChain | None) -> None:
        self.group: StreamGroup = group
        self.loop: Loop = loop
        self.ticker: Ticker = Ticker(loop)
        self.signals: SignalChain | None = signals
        self.admission: Admission | None = None if group._limits is None else Admission(group._limits)  # noqa: SLF001 -- two parts of one thing
        self.ending: DetachedTask | None = None
        self.streams: set[GroupMember] = set()
        self.watch: ShutdownWatch = ShutdownWatch(loop, self.ticker, self._server_shuts_down)
        self.opened: int = 0
        self.closed: Counter[CloseReason] = Counter()
        self.totals: StreamTotals = StreamTotals()
        self.shutdown: Event = Event()
        self.empty: Event = Event()

    def enter(self, make_request: Callable[[], Request]) -> Place | None:
        """Let in a stream that is added before anything else happens; return its place, where it has to be left.

        Raises:
            StreamRefusedError: it is one too many. Not at a shutdown, where it is ended at once anyhow.
        """
        if self.admission is None or self.group.shutdown_requested:
            return None
        return self.admission.enter(len(self.streams), self.loop.current_time(), make_request)

    def add(self, stream: GroupMember) -> None:
        """Take in a stream that opens, and end it at once if that is due."""
        if not self.streams:
            self.empty = Event()
            if self.signals is not None:
                self.signals.install(in_worker=stream.in_worker)
        self.streams.add(stream)
        self.opened += 1
        stream.number = self.opened
        server_shutdown = stream.server_shutdown
        if server_shutdown is not None:
            self.watch.add(server_shutdown)
        if self.group.shutdown_requested or (server_shutdown is not None and server_shutdown.is_set()):
            stream.end(CloseReason.SHUTDOWN)

    def discard(self, stream: GroupMember, reason: CloseReason) -> None:
        """Let go a stream that has ended."""
        self.ticker.discard(stream)
        self.streams.discard(stream)
        self.closed[reason] += 1
        stream.add_to(self.totals)
        if self.group._observers:  # noqa: SLF001
            self._tell_observers(stream)
        if not self.streams:
            self._became_empty(stream.server_shutdown)

    def _tell_observers(self, stream: GroupMember) -> None:
        statistics = stream.statistics(self.loop.current_time())
        for observer in self.group._observers:  # noqa: SLF001
            try:
                observer.stream_closed(statistics)
            except Exception:
                logger.exception("%r raised when it was told of a stream that has ended", observer)

    def _server_shuts_down(self, server_shutdown: ServerShutdown) -> None:
        self.end_all(lambda stream: stream.server_shutdown is server_shutdown)

    def end_all(self, predicate: Callable[[GroupMember], bool], reason: CloseReason = CloseReason.SHUTDOWN) -> None:
        for stream in [stream for stream in self.streams if predicate(stream)]:
            stream.end(reason)

    def request_shutdown(self) -> None:
        self.shutdown.set()
        self.end_all(lambda _: True)

    def withdraw_shutdown(self) -> None:
        if self.shutdown.is_set():
            self.shutdown = Event()

    def _became_empty(self, server_shutdown: ServerShutdown | None) -> None:
        self.ticker.clear()
        self.watch.clear()
        if self.signals is not None:
            if self.signals.is_put_off:
                self.ending = self.loop.spawn_detached(partial(self._end_process, self.signals, server_shutdown))
            else:
                self.signals.uninstall()
        self.empty.set()

    async def _end_process(self, signals: SignalChain, server_shutdown: ServerShutdown | None) -> None:
        ends_anyhow = await is_shut_down_within(ENDS_WITHIN, server_shutdown)
        if not self.streams:
            signals.uninstall(ends_anyhow=ends_anyhow)


@final
class StreamGroup:
    """Every open stream of an application. A response names its group with ``group=``.

    Without one, streams are in a default group, one for each event-loop run.

    Args:
        shutdown_grace: seconds that producers are given at a shutdown, where their response gives them less.
        reconnect_within: spread reconnects over so many seconds: at a shutdown each stream ends with a random
            ``retry`` up to that, and each new stream begins with its normal one, so that a deploy is no stampede.
        farewell: the last event of a stream that has no ``farewell`` of its own, or a function that is called with
            the :class:`CloseReason` and returns it, or ``None``.
        max_streams: so many streams may be open; one more is refused with :exc:`StreamRefusedError`, a 503.
        max_streams_per: a pair of a key function and a number: so many streams of one key may be open; one more is
            refused with a 429. The function gets Starlette's ``Request``, must not wait, and returns who that is, a
            user's id or an address, say, or ``None`` for who has no limit.
        accept_rate: so many streams may be opened in a second, and as many at once after a second's rest; one more
            is refused with a 503, and told to come back when it would be its turn.
        signals: while streams are open in the main thread, put a signal handler before those that the server
            installed for SIGINT and SIGTERM; it requests the shutdown and calls theirs. Does nothing where no handlers
            are installed, except in a worker process of hypercorn's: there it delays SIGTERM until the streams have
            ended.
        name: for statistics.

    Raises:
        TypeError, ValueError: an argument that makes no sense.

    Whoever is refused is told a random ``Retry-After``: of the seconds of ``reconnect_within``, or 10, where nobody
    knows when a stream will end. A stream holds its place from before its producer is started until all of it is over.
    """

    __slots__ = (
        "__weakref__",
        "_limits",
        "_observers",
        "_run",
        "_shutdown_requested",
        "_signals",
        "farewell",
        "name",
        "reconnect_within",
        "shutdown_grace",
    )

    def __init__(
        self,
        *,
        shutdown_grace: float = 0.0,
        reconnect_within: float | None = None,
        farewell: Farewell | None = None,
        max_streams: int | None = None,
        max_streams_per: tuple[KeyFunction, int] | None = None,
        accept_rate: float | None = None,
        signals: bool = True,
        name: str = "streams",
    ) -> None:
        check_grace("shutdown_grace", shutdown_grace)
        if reconnect_within is not None:
            check_seconds("reconnect_within", reconnect_within, zero=False)
            if reconnect_within > LONGEST_RECONNECT:
                wanted = f"a positive number of seconds, {LONGEST_RECONNECT:.0f} at most, or None"
                raise wrong(ValueError, "reconnect_within", wanted, reconnect_within)
        if farewell is not None:
            check_farewell(farewell)
        check_flag("signals", signals)
        check_text("name", name)
        limits = Limits(
            max_streams=max_streams,
            max_streams_per=max_streams_per,
            accept_rate=accept_rate,
            retry_within=REFUSED_WITHIN if reconnect_within is None else reconnect_within,
        )
        self._limits: Limits | None = limits if limits.are_any() else None
        self.shutdown_grace: float = shutdown_grace
        self.reconnect_within: float | None = reconnect_within
        self.farewell: Farewell | None = farewell
        self.name: str = name
        self._observers: tuple[StreamObserver, ...] = ()
        self._signals = signals
        self._shutdown_requested = False
        self._run: GroupRun | None = None

    def request_shutdown(self) -> None:
        """End every stream, and from now on every new one at once, with ``CloseReason.SHUTDOWN``.

        Not a checkpoint. May be called from any thread and from a signal handler, also before the event loop runs.
        """
        self._shutdown_requested = True
        run = self._run
        if run is not None:
            run.loop.call_soon_threadsafe(run.request_shutdown)

    def withdraw_shutdown(self) -> None:
        """Let streams open again; those that were told of the shutdown end all the same. Internal.

        Not a checkpoint. From any thread. For sse-starlette's ``AppStatus.should_exit = False``.
        """
        self._shutdown_requested = False
        run = self._run
        if run is not None:
            run.loop.call_soon_threadsafe(run.withdraw_shutdown)

    async def wait_shutdown_requested(self) -> None:
        """Wait until :meth:`request_shutdown` was called. A checkpoint. Fits hypercorn's ``shutdown_trigger``."""
        await self.bound_run().shutdown.wait()

    async def wait_empty(self) -> None:
        """Wait until no stream is open; that may be so already. A checkpoint."""
        run = self.bound_run()
        if not run.streams:
            await checkpoint()
            return
        await run.empty.wait()

    async def close(self, predicate: Callable[[Mapping[str, str]], bool] | None = None) -> int:
        """Kick streams: end them with ``CloseReason.KICKED``.

        Args:
            predicate: called with the ``labels`` of each stream; ``True`` ends it, ``False`` doesn't. Default: all.

        Returns:
            How many streams that were. With ``grace`` they may still be open, and end later.

        Raises:
            TypeError: ``predicate`` is a coroutine function, or returned neither ``True`` nor ``False``. No stream is
                ended then.

        A checkpoint. Cancellation: after it the streams are ended all the same.
        """
        run = self.bound_run()
        chosen = [*run.streams]
        if predicate is not None:
            check_function("predicate", predicate, "a function of a stream's labels")
            chosen = [stream for stream in chosen if returned_bool("predicate", predicate(stream.labels))]
        for stream in chosen:
            stream.end(CloseReason.KICKED)
        await checkpoint()
        return len(chosen)

    async def close_stream(self, number: int) -> bool:
        """Kick one stream: end it with ``CloseReason.KICKED``.

        Args:
            number: as in its :class:`StreamStatistics`.

        Returns:
            Whether it was open. As with :meth:`close`, it may still be.

        A checkpoint. Cancellation: after it the stream is ended all the same.
        """
        check_count("number", number, least=0)
        chosen = [stream for stream in self.bound_run().streams if stream.number == number]
        for stream in chosen:
            stream.end(CloseReason.KICKED)
        await checkpoint()
        return bool(chosen)

    def statistics(self) -> StreamGroupStatistics:
        """Return a snapshot of the group. From any thread. Looks at every open stream once."""
        run, totals = self._run, StreamTotals()
        streams = [] if run is None else [*run.streams]  # at once: the loop may go on meanwhile
        if run is not None:
            run.totals.add_to(totals)
        for stream in streams:
            stream.add_to(totals)
        return StreamGroupStatistics(
            name=self.name,
            open_streams=len(streams),
            opened=0 if run is None else run.opened,
            closed={} if run is None else dict(run.closed),
            refused={} if run is None or run.admission is None else dict(run.admission.refused),
            written_events=totals.written_events,
            written_bytes=totals.written_bytes,
            dropped=totals.dropped,
            stalls=totals.stalls,
            stalled=totals.stalled,
            shutdown_requested=self._shutdown_requested,
        )

    def streams(self) -> list[StreamStatistics]:
        """Return a snapshot of each open stream, in no order. Takes some microseconds for each."""
        run = self._run
        if run is None or not run.streams:
            return []
        now = run.loop.current_time()
        return [stream.statistics(now) for stream in run.streams]

    def add_observer(self, observer: StreamObserver) -> None:
        """Have the observer told of every stream that ends from now on, for as long as the group lives."""
        if isinstance(observer, type) or not callable(getattr(observer, "stream_closed", None)):
            raise wrong(TypeError, "observer", "an object with a method stream_closed(stream)", observer)
        check_function("observer.stream_closed", observer.stream_closed, "a method")
        self._observers += (observer,)

    @property
    def shutdown_requested(self) -> bool:
        """Whether :meth:`request_shutdown` was called."""
        return self._shutdown_requested

    def bound_run(self) -> GroupRun:
        """Return the group's life in the running event loop. Internal: streams call it."""
        loop = current_loop()
        run = self._run
        if run is None or run.loop is not loop:
            if run is not None:
                if run.streams:
                    msg = "this StreamGroup has streams in another event loop; give each event loop a group of its own"
                    raise RuntimeError(msg)
                self._shutdown_requested = False  # that was the shutdown of an earlier server
            run = self._run = GroupRun(self, loop, SignalChain(self.request_shutdown) if self._signals else None)
            if self._shutdown_requested:
                run.shutdown.set()
        return run


_default_run: RunVar[GroupRun] = RunVar("sse_trio._default_run")


def current_run(group: StreamGroup | None) -> GroupRun:
    """Return the life of this group, or of the default one, in the running event loop."""
    if group is not None:
        return group.bound_run()
    try:
        return _default_run.get()
    except LookupError:
        run = StreamGroup().bound_run()
        _default_run.set(run)
        return run
