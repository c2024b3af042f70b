# StreamSource: where a stream's events come from, as its writer sees it: a channel's state or a hub's subscription.
#
# Rule 1: a source holds the events to write and wakes its receivers when there are any. It never writes.
# Rule 2: everything here but `join` is synchronous: the writer takes the events between two of its sends.
# Rule 3: these are base classes, not protocols, because a response calls isinstance() for each stream, and that costs
#         ten times as much with a protocol.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from starlette.types import Message

    from .._loops.loop import Loop
    from .._reasons import CloseReason
    from .._wire.batch import Batch
    from .waiters import IdleWriter, Receiver

__all__ = ("Backlog", "LiveSource", "StreamSource")


class Backlog(NamedTuple):
    """How much of a source has not been written yet."""

    events: int
    """Events held for this stream alone."""
    bytes: int
    """Their bytes on the wire."""
    lag: int | None
    """Events that a subscriber has not taken yet from those shared with others; None for a channel."""
    topics: tuple[str, ...]
    """The topics of a subscription."""


class StreamSource(ABC):
    """The events that a writer writes."""

    __slots__ = ("close_reason", "coalesce_after", "dropped", "idle_writer", "received", "refusing", "started")

    started: bool
    """Whether the response may send its head before there is an event."""
    refusing: bool
    """Whether the source accepts no more events."""
    close_reason: CloseReason | None
    received: int
    """How many events were taken from it."""
    dropped: int
    """How many events were dropped."""
    coalesce_after: float
    """Seconds after the last write. Until then more events may come and share a write; after that the writer may write
    an event inside the send() that brought it. Infinite if the user's code runs when an event is taken."""

    idle_writer: IdleWriter | None
    """The writer of its stream while that is idle, if it can write an event inside the call that brings it."""

    @property
    def needs_receiver(self) -> bool:
        """Whether it has room for an event only while its writer waits for one."""
        return False

    @abstractmethod
    def bind(self, loop: Loop, sep: str, on_overflow: Callable[[], None]) -> None:
        """Attach to a stream: use its loop and line end; call ``on_overflow`` if its client falls too far behind."""

    @abstractmethod
    def unbind(self) -> None:
        """Detach from the stream."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether there is an event to write."""

    @abstractmethod
    def take_batch(self) -> Batch | None:
        """Remove all events that can be written now and return them joined; None if there are none."""

    @abstractmethod
    def backlog(self) -> Backlog:
        """Return how much has not been taken. Looks at every event."""

    @abstractmethod
    def at_end(self) -> bool:
        """Return whether every event was taken and no more can come."""

    @abstractmethod
    def begin_waiting(self, waiting: Receiver) -> None:
        """Wake this receiver when there is an event, or at the end."""

    @abstractmethod
    def end_waiting(self, waiting: Receiver) -> None:
        """Don't wake this receiver any more."""

    @abstractmethod
    def keep_waiting(self, waiting: Receiver) -> None:
        """Wake this receiver again: it was woken, and took the events inside the call that woke it."""

    def offer_idle(self, writer: IdleWriter) -> None:
        """Write events with this writer, inside the calls that bring them, until end_waiting().

        A source that has no such calls does nothing.
        """
        del writer

    @abstractmethod
    def begin_ending(self, reason: CloseReason) -> None:
        """Note that the stream is about to end."""

    @abstractmethod
    def refuse_sends(self) -> None:
        """Accept no more events. Those that are held are still written, and then comes the end."""


class LiveSource(StreamSource):
    """A source without producers, which is joined before the writer can take its events."""

    __slots__ = ()

    @abstractmethod
    def check_unused(self) -> None:
        """Raise RuntimeError if a stream uses it, or has used it."""

    @abstractmethod
    async def join(self, head: Message) -> None:
        """Read the events that the client missed. May add headers to the head. The response raises what this raises."""

    @abstractmethod
    def close(self) -> None:
        """Accept no more events, and release everything."""

    @abstractmethod
    def is_shared(self, sep: str) -> bool:
        """Return whether its batches are the same as other subscribers', with this line end."""
