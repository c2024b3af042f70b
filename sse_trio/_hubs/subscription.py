# Subscription: the handle of one subscriber. It is given to a response, or received from.
#
# Rule 1: what a user may do is here, and how it is documented; what happens is decided in source.py.
# Rule 2: other folders get what a stream is made from through source_of(), and nothing else of it.

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, cast, final

from anyio import ClosedResourceError, EndOfStream

from .._wire.event import ServerSentEvent
from ..stores._protocol import StoredEvent
from .source import HubOverflow, SubscriptionSource

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ("Subscription", "SubscriptionStatistics", "source_of")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionStatistics:
    """A snapshot of a subscription."""

    topics: tuple[str, ...]
    """Its topics and patterns, sorted, without those that another pattern covers."""
    overflow: HubOverflow
    """What happens to it when it falls behind the ring."""
    lag: int | None
    """Events of its topics that it has yet to take, before its filter. None while it reads history from the store,
    which alone knows how many there are, and before and after it is in the hub."""


@final
class Subscription:
    """Events of some topics of a hub. Made by ``Hub.subscribe()``.

    It is the source of a response: ``EventSourceResponse(hub.subscribe("prices"))``. Or you receive from it::

        async with hub.subscribe("prices") as subscription:
            async for event in subscription:
                ...

    It is used once. Entering it reads history, and raises what the store raises.
    """

    __slots__ = ("_source",)

    def __init__(self, source: SubscriptionSource) -> None:
        self._source = source

    def __repr__(self) -> str:
        statistics = self.statistics()
        topics = ", ".join(map(repr, statistics.topics))
        return f"<Subscription to {topics}: overflow={statistics.overflow!r}, lag={statistics.lag}>"

    def statistics(self) -> SubscriptionStatistics:
        """Return a snapshot of the subscription. Not a checkpoint."""
        source = self._source
        return SubscriptionStatistics(topics=source.topics.patterns, overflow=source.overflow, lag=source.lag())

    async def receive(self) -> ServerSentEvent:
        """Return the next event, with its id, waiting while there is none.

        A checkpoint only when it waits. Cancellation: atomic. When it raises, no event was taken.

        Raises:
            EndOfStream: the hub was closed, or the subscription fell behind with ``overflow="close"``. (``async for``
                just ends.)
            BusyResourceError: another task receives already. The caller's fault.
            ClosedResourceError: the subscription is not entered, or was left. The caller's fault.
        """
        source = self._source
        unread = source.unread
        if unread is None or source.is_closed:
            msg = "a subscription must be entered before it is received from: `async with hub.subscribe(...) as ...`"
            raise ClosedResourceError(msg)
        while not unread:
            # Only a stream's client gets positions, so what is not stored here is an event of the hub.
            taken = cast("Sequence[StoredEvent | ServerSentEvent]", source.take_events())
            unread.extend(event.event if isinstance(event, StoredEvent) else event for event in taken)
            if unread:
                break
            if source.at_end():
                raise EndOfStream
            await source.wait_readable()
        return unread.popleft()

    def close(self) -> None:
        """Leave the hub. Not a checkpoint. A receive() that waits in another task ends. Closing twice does nothing."""
        self._source.close()

    async def __aenter__(self) -> Self:
        self._source.check_unused()
        try:
            await self._source.join({"headers": []})
        except BaseException:
            self.close()
            raise
        self._source.unread = deque()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None


source_of: Callable[[Subscription], SubscriptionSource] = attrgetter("_source")
"""Return what a stream of this subscription is made from. Internal."""
