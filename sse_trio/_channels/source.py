# What a stream is made from, as its writer sees it: the state of a channel, or a subscription to a hub.
#
# Rule 1: it says what there is to write and calls its receivers when that changes. It never writes.
# Rule 2: everything here but `join` is synchronous: the writer takes what is there between two of its sends.
# Rule 3: these are base classes and no protocols, because a response asks isinstance() for each stream, and asking that
#         of a protocol costs ten times as much.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from starlette.types import Message

    from .._loops.loop import Loop
    from .._reasons import CloseReason
    from .._wire.batch import Batch
    from .waiters import Receiver

__all__ = ("Backlog", "LiveSource", "StreamSource")


class Backlog(NamedTuple):
    """What a source has yet to be relieved of."""

    events: int
    """Events that it holds for this stream alone."""
    bytes: int
    """Their bytes on the wire."""
    lag: int | None
    """Events that it has yet to take from where all subscribers find them."""
    topics: tuple[str, ...]
    """Of which topics."""


class StreamSource(ABC):
    """What a writer writes."""

    __slots__ = ("close_reason", "coalesce_after", "dropped", "received", "refusing", "started")

    started: bool
    """Whether the head may be sent without an event."""
    refusing: bool
    """Whether nothing more is taken in."""
    close_reason: CloseReason | None
    received: int
    """Events that were taken."""
    dropped: int
    """Events that were not, and never will be."""
    coalesce_after: float
    """Seconds after the last write from which on what there is may be written at once, in the midst of whoever sends
    it: before that, more may be about to come. Infinite where code of the user's runs when it is taken."""

    @abstractmethod
    def bind(self, loop: Loop, sep: str, on_overflow: Callable[[], None]) -> None:
        """Belong to a stream: its loop, its line end, and what to call when the receiver fell too far behind."""

    @abstractmethod
    def unbind(self) -> None:
        """Belong to no stream any more."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether there is an event to write."""

    @abstractmethod
    def take_batch(self) -> Batch | None:
        """Remove all that there is to write now, and return it joined; None for nothing."""

    @abstractmethod
    def backlog(self) -> Backlog:
        """Return what there is to take. Looks at all of it."""

    @abstractmethod
    def at_end(self) -> bool:
        """Whether everything was taken and nothing can come."""

    @abstractmethod
    def begin_waiting(self, waiting: Receiver) -> None:
        """Call this receiver when there is an event, or the end."""

    @abstractmethod
    def end_waiting(self, waiting: Receiver) -> None:
        """Call it no more."""

    @abstractmethod
    def keep_waiting(self, waiting: Receiver) -> None:
        """It was called, has taken what there was while its caller waited, and is to be called again."""

    @abstractmethod
    def begin_ending(self, reason: CloseReason) -> None:
        """The stream is about to end."""

    @abstractmethod
    def refuse_sends(self) -> None:
        """Take in nothing more: what is there is still to be written, and then comes the end."""


class LiveSource(StreamSource):
    """One that has to be joined before it can be written, and has no producers of its own."""

    __slots__ = ()

    @abstractmethod
    def check_unused(self) -> None:
        """Raise RuntimeError where another stream has it, or had it."""

    @abstractmethod
    async def join(self, head: Message) -> None:
        """Get into position: read what was missed. May add headers to the head. What it raises, the response does."""

    @abstractmethod
    def close(self) -> None:
        """Take in nothing more, and let go of everything."""

    @abstractmethod
    def is_shared(self, sep: str) -> bool:
        """Whether what it gives is what those others are given, with this line end."""
