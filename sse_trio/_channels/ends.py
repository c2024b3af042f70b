# What the two ends of a channel have in common. They are in send_channel.py and receive_channel.py.
#
# Rule 1: the ends have the methods and their documentation; state.py makes the decisions.
# Rule 2: close() never waits and is not a checkpoint; aclose() always is one, as in trio.
# Rule 3: the state of an end is private. Other folders get it from state_of().

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, final

from anyio import ClosedResourceError
from anyio.lowlevel import checkpoint

from .state import ChannelState

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ("End", "EventChannelStatistics", "state_of")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EventChannelStatistics:
    """A snapshot of a channel, for debugging and metrics."""

    current_buffer_used: int
    """Events in the buffer."""
    max_buffer_size: float
    """The most events that the buffer may hold."""
    current_buffer_bytes: int
    """Wire bytes in the buffer."""
    max_buffer_bytes: float
    """The most wire bytes that the buffer may hold, unless a single event is larger."""
    open_send_channels: int
    """Open send ends, including clones."""
    open_receive_channels: int
    """Open receive ends, including clones."""
    tasks_waiting_send: int
    """Tasks that wait for room in ``send()``."""
    tasks_waiting_receive: int
    """Tasks that wait for an event."""
    events_received: int
    """Events that left the channel at the receive end."""
    events_dropped: int
    """Events dropped by ``overflow="drop_oldest"`` or ``"drop_newest"``."""
    events_conflated: int
    """Events that a newer event with the same key replaced."""


class End:
    """One end of a channel: a reference to the state, and whether this end is closed."""

    __slots__ = ("__weakref__", "_closed", "_state")
    _state: ChannelState
    _closed: bool

    def __new__(cls, state: ChannelState | None = None) -> Self:
        if not isinstance(state, ChannelState):
            msg = f"{cls.__name__} has no public constructor; use open_event_channel() or clone()"
            raise TypeError(msg)
        end = object.__new__(cls)
        end._state = state
        end._closed = False
        end._opened()
        return end

    def __repr__(self) -> str:
        state = self._state
        held = "closed" if self._closed else f"{len(state.buffer)} of {state.max_buffer_size} events buffered"
        return f"<{type(self).__name__}: {held}>"

    def _opened(self) -> None:
        """Count this end as open."""

    def close(self) -> None:
        """Close this end."""

    async def aclose(self) -> None:
        """Close this end. A checkpoint; the end is closed even if the checkpoint is cancelled."""
        self.close()
        await checkpoint()

    def clone(self) -> Self:
        """Return another end of the same kind, which you close separately.

        Raises:
            ClosedResourceError: this end is closed.
        """
        if self._closed:
            msg = "this end of the channel is closed, so it can't be cloned; clone it before you close it"
            raise ClosedResourceError(msg)
        return type(self)(self._state)

    def statistics(self) -> EventChannelStatistics:
        """Return a snapshot of the channel."""
        state = self._state
        return EventChannelStatistics(
            current_buffer_used=len(state.buffer),
            max_buffer_size=state.max_buffer_size,
            current_buffer_bytes=state.buffer.size,
            max_buffer_bytes=state.max_buffer_bytes,
            open_send_channels=state.open_senders,
            open_receive_channels=state.open_receivers,
            tasks_waiting_send=len(state.senders.queue),
            tasks_waiting_receive=len(state.receivers.queue),
            events_received=state.received,
            events_dropped=state.dropped,
            events_conflated=state.conflated,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def _close_late(self, close: Callable[[object], None]) -> None:
        # An end that the user forgot to close must not make the other end wait for ever. This may run in any thread. It
        # closes first, because the warning may be turned into an error.
        loop = self._state.loop
        if loop is None:  # no task has waited yet
            close(None)
        else:
            loop.call_soon_threadsafe(partial(close, None))
        message = f"unclosed {type(self).__name__}: use it in `async with`, or close() it"
        warnings.warn(message, ResourceWarning, source=self, stacklevel=2)


state_of: Callable[[End], ChannelState] = attrgetter("_state")
"""The state behind either end, for the response that writes from it."""
