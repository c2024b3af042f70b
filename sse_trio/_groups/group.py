# StreamGroup: all open streams of an application. You count them, kick some of them, and end all of them at a shutdown.
#
# Rule 1: a server that shuts down does not send http.disconnect to open streams, and sends lifespan.shutdown only after
#         they have ended. So the group tells them: when request_shutdown() is called, when a signal comes (signals.py),
#         or when it notices that their server is shutting down (shutdown_watch.py). The last ends only the streams of
#         that server.
# Rule 2: StreamGroup is a handle. Other folders reach what is behind it through the functions at the end of this file.
# Rule 3: request_shutdown() and statistics() may be called from any thread. Call everything else from the thread of
#         the event loop.
# Rule 4: a stream that exceeds a limit is refused before it is made (admission.py). During a shutdown new streams are
#         not refused: they are opened and ended at once, so that their clients receive the farewell and the time to
#         reconnect.
#
# StreamGroup is long because of its documentation: it has no logic of its own.

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, final

from anyio.lowlevel import RunVar, checkpoint

from .._arguments.checks import check_count, check_flag, check_function, check_grace, check_seconds, check_text, wrong
from .._reasons import CloseReason, RefusalReason
from .._wire.returned import check_farewell, returned_bool
from ..stores._kicks import Kick, check_kick_labels
from .admission import KeyFunction, Limits
from .kickable import KickSender
from .run import Farewell, GroupMember, GroupRun, GroupState
from .statistics import StreamObserver, StreamStatistics, StreamTotals

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = (
    "StreamGroup",
    "StreamGroupStatistics",
    "current_run",
    "default_group",
    "group_state_of",
    "run_of",
)

REFUSED_WITHIN = 10.0
"""Seconds over which refused clients are spread if the group has no `reconnect_within`."""

LONGEST_RECONNECT = 86_400.0 * 365
"""Seconds. No client comes back after a longer time."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamGroupStatistics:
    """A snapshot of a group. The counters start when the group is first used in the event loop."""

    name: str
    """The group's ``name``."""
    open_streams: int
    """Streams that are open now."""
    opened: int
    """Streams that were opened."""
    closed: Mapping[CloseReason, int]
    """Streams that have ended, by reason."""
    refused: Mapping[RefusalReason, int]
    """Streams that were refused, by the limit that they exceeded. They were never opened."""
    written_events: int
    """Events given to the server."""
    written_bytes: int
    """Bytes given to the server, including pings, without headers."""
    dropped: int
    """Events that clients missed because of the overflow policy of a channel or subscription."""
    stalls: int
    """Writes that took a second or longer, including those in progress."""
    stalled: int
    """Streams that are in such a write now."""
    shutdown_requested: bool
    """Whether new streams are ended at once."""


@final
class StreamGroup:
    """All open streams of an application.

    A response names its group with ``group=``. Streams without a group are in a default group; each event-loop run
    has its own.

    Args:
        shutdown_grace: seconds that producers have to finish at a shutdown. A response with a longer ``grace`` keeps
            it.
        reconnect_within: spread reconnects over this many seconds, so that a deploy does not bring all clients back at
            once. At a shutdown each stream ends with a random ``retry`` of up to this time, and each new stream
            begins with its normal ``retry``.
        farewell: the last event of each stream that has no ``farewell`` of its own; or a function that takes the
            :class:`CloseReason` and returns the event, or ``None``.
        max_streams: how many streams may be open. The group refuses further streams with
            :exc:`StreamRefusedError`, which is a 503.
        max_streams_per: a pair ``(key_function, number)``: how many streams of one key may be open. The group refuses
            further streams of that key with a 429. The function takes Starlette's ``Request``, must not wait, and
            returns the key, such as a user id or an address; or ``None`` for a client without a limit.
        accept_rate: how many streams may be opened per second. After an idle second, that many may be opened at once.
            The group refuses further streams with a 503, and their ``Retry-After`` puts them in a queue.
        signals: while streams are open in the main thread, handle SIGINT and SIGTERM before the server does: request
            the shutdown, then call the server's handler. If the server has no handler the signal is left alone, except
            in a worker process of hypercorn's, where SIGTERM is delayed until the streams have ended.
        name: the group's name in statistics.

    Raises:
        TypeError, ValueError: an argument is invalid.

    A refused client gets a random ``Retry-After`` of up to ``reconnect_within`` seconds, or 10. A stream counts
    towards the limits from before its producer starts until its cleanup is done.
    """

    __slots__ = ("__weakref__", "_state")

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
        self._state = GroupState(
            name=name,
            shutdown_grace=shutdown_grace,
            reconnect_within=reconnect_within,
            farewell=farewell,
            limits=limits if limits.are_any() else None,
            signals=signals,
        )

    def __repr__(self) -> str:
        run = self._state.run
        shutdown = ", shutting down" if self._state.shutdown_requested else ""
        return f"<StreamGroup {self._state.name!r}: {0 if run is None else len(run.streams)} open{shutdown}>"

    @property
    def name(self) -> str:
        """The ``name``, as given."""
        return self._state.name

    @property
    def shutdown_requested(self) -> bool:
        """Whether :meth:`request_shutdown` was called."""
        return self._state.shutdown_requested

    # --- shutdown

    def request_shutdown(self) -> None:
        """End all streams with ``CloseReason.SHUTDOWN``. From now on, end each new stream at once.

        Not a checkpoint. You may call it from any thread, from a signal handler, and before the event loop runs.
        """
        self._state.request_shutdown()

    async def wait_shutdown_requested(self) -> None:
        """Wait until :meth:`request_shutdown` is called. A checkpoint. Works as hypercorn's ``shutdown_trigger``."""
        await self._state.bound_run().shutdown.wait()

    async def wait_empty(self) -> None:
        """Wait until no stream is open. A checkpoint. Returns at once if there is none."""
        await self._state.bound_run().wait_empty()

    # --- kicks

    async def kick(
        self,
        predicate: Callable[[Mapping[str, str]], bool] | Mapping[str, str] | None = None,
        *,
        everywhere: KickSender | None = None,
    ) -> int:
        """End streams with ``CloseReason.KICKED``.

        ::

            await group.kick({"user": "ann"}, everywhere=hub)

        Args:
            predicate: the labels of the streams to end: a stream is ended if it has all of them, with these values.
                Or a function that takes the ``labels`` of a stream and returns ``True`` to end it, ``False`` to leave
                it open. By default all streams are ended.
            everywhere: a hub. The streams with these labels are ended in every process that has this hub open, in
                groups of this ``name``. It takes labels, because a function can't be sent.

        Returns:
            How many streams of this process were chosen. Those with ``grace`` may still be open for that time.

        Raises:
            TypeError, ValueError: ``predicate`` is neither labels nor a plain function, or returned neither ``True``
                nor ``False``; or labels are needed. In these cases no stream is ended.
            StoreUnavailableError: the hub's store is down. The streams of this process are ended; whether the others
                are is unknown. You may try again.

        A checkpoint. If it is cancelled, the streams of this process are ended all the same.
        """
        if everywhere is not None and not callable(getattr(everywhere, "kick", None)):
            raise wrong(TypeError, "everywhere", "a hub, or None for the streams of this process", everywhere)
        if everywhere is not None and not _are_labels(predicate):
            wanted = 'labels such as {"user": "ann"}, with everywhere=, because a function can\'t be sent'
            raise wrong(TypeError, "predicate", wanted, predicate)
        if _are_labels(predicate):
            return await self._kick_labelled(predicate, everywhere)
        chosen = [*self._state.bound_run().streams]
        if predicate is not None:
            check_function("predicate", predicate, 'labels, such as {"user": "7"}, or a function of labels')
            chosen = [stream for stream in chosen if returned_bool("predicate", predicate(stream.labels))]
        return await _kick(chosen)

    async def _kick_labelled(self, labels: Mapping[str, str], everywhere: KickSender | None) -> int:
        check_kick_labels(labels, "predicate")
        kick = Kick(labels, self.name)
        run = self._state.bound_run()
        count = await _kick([stream for stream in run.streams if kick.chooses(stream.labels, self.name)])
        if everywhere is not None:
            await everywhere.kick(labels, group=self.name)
        return count

    async def kick_stream(self, number: int) -> bool:
        """End one stream with ``CloseReason.KICKED``.

        Args:
            number: the ``number`` in its :class:`StreamStatistics`.

        Returns:
            Whether the stream was open. With ``grace`` it may still be open for that time.

        A checkpoint. If it is cancelled, the stream is ended all the same.
        """
        check_count("number", number, least=0)
        return bool(await _kick([each for each in self._state.bound_run().streams if each.number == number]))

    async def close(self, predicate: Callable[[Mapping[str, str]], bool] | None = None) -> int:
        """Call :meth:`kick`. Deprecated: the group stays open, and only its streams end."""
        msg = "StreamGroup.close() is deprecated; write StreamGroup.kick()"
        warnings.warn(msg, DeprecationWarning, stacklevel=2)
        return await self.kick(predicate)

    async def close_stream(self, number: int) -> bool:
        """Call :meth:`kick_stream`. Deprecated."""
        msg = "StreamGroup.close_stream() is deprecated; write StreamGroup.kick_stream()"
        warnings.warn(msg, DeprecationWarning, stacklevel=2)
        return await self.kick_stream(number)

    # --- what there is to see

    def statistics(self) -> StreamGroupStatistics:
        """Return a snapshot of the group. You may call it from any thread. Reads each open stream once."""
        state, totals = self._state, StreamTotals()
        run = state.run
        streams = [] if run is None else [*run.streams]  # a copy: the loop may run meanwhile
        if run is not None:
            run.totals.add_to(totals)
        for stream in streams:
            stream.add_to(totals)
        return StreamGroupStatistics(
            name=state.name,
            open_streams=len(streams),
            opened=0 if run is None else run.opened,
            closed={} if run is None else dict(run.closed),
            refused={} if run is None or run.admission is None else dict(run.admission.refused),
            written_events=totals.written_events,
            written_bytes=totals.written_bytes,
            dropped=totals.dropped,
            stalls=totals.stalls,
            stalled=totals.stalled,
            shutdown_requested=state.shutdown_requested,
        )

    def streams(self) -> list[StreamStatistics]:
        """Return a snapshot of each open stream, in no particular order. Takes some microseconds per stream."""
        run = self._state.run
        if run is None or not run.streams:
            return []
        now = run.loop.current_time()
        return [stream.statistics(now) for stream in run.streams]

    def add_observer(self, observer: StreamObserver) -> None:
        """Call ``observer.stream_closed()`` for each stream that ends from now on, as long as the group exists."""
        if isinstance(observer, type) or not callable(getattr(observer, "stream_closed", None)):
            raise wrong(TypeError, "observer", "an object with a method stream_closed(stream)", observer)
        check_function("observer.stream_closed", observer.stream_closed, "a method")
        self._state.observers += (observer,)


def _are_labels(predicate: object) -> TypeIs[Mapping[str, str]]:
    return isinstance(predicate, Mapping)  # kick() checks what is in it


async def _kick(chosen: list[GroupMember]) -> int:
    for stream in chosen:
        stream.end(CloseReason.KICKED)
    await checkpoint()
    return len(chosen)


# --- behind the handle, for the other folders

group_state_of: Callable[[StreamGroup], GroupState] = attrgetter("_state")
"""The state behind a group: its options, and withdraw_shutdown()."""

_default_group: RunVar[StreamGroup] = RunVar("sse_trio._default_group")
_default_run: RunVar[GroupRun] = RunVar("sse_trio._default_run")


def run_of(group: StreamGroup) -> GroupRun:
    """Return the group's run in the running event loop."""
    return group_state_of(group).bound_run()


def default_group() -> StreamGroup:
    """Return the running event loop's group for streams without a group."""
    current_run(None)
    return _default_group.get()


def current_run(group: StreamGroup | None) -> GroupRun:
    """Return the run of this group, or of the default group, in the running event loop."""
    if group is not None:
        return run_of(group)
    try:
        return _default_run.get()
    except LookupError:
        _default_group.set(new_group := StreamGroup())
        _default_run.set(run := run_of(new_group))
        return run
