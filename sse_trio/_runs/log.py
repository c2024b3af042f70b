# The log of one run: its events in the store, appended by its owner alone.
#
# Rule 1: every append names the token of the run, so an owner that has lost its lease appends nothing more.
# Rule 2: while the store is down, the log waits and tries again. The outcome of the append that failed is unknown. So
#         it takes a new token first, which shuts out whatever is still under way, and looks then whether the events are
#         there: only this log appends to the topic, and an append is whole.
# Rule 3: the end is written in one step with the record. It is known again by the run that the record is of.

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import final

from anyio import ClosedResourceError, sleep

from .._errors import HoldLostError, StoreUnavailableError
from .._hubs.publisher import Publisher, holding_store
from ..stores._holds import Claim, HoldingStore, OnHeldDone
from ..stores._protocol import EventId, EventStore
from ..stores._topics import TopicFilter
from .record import RunRecord

__all__ = ("RETRY_SECONDS", "RunLog", "new_token")

RETRY_SECONDS = 0.25
"""How long a run waits before it tries a store again that was down."""

_logger = logging.getLogger("sse_trio")


def new_token() -> str:
    """Return a token that nobody else has."""
    return secrets.token_hex(8)


@final
class RunLog:
    """Appends to the topic of a run.

    Args:
        publisher: of the hub.
        store: its store.
        topic: of the run.
        lease: for how long the topic is held, in seconds.
    """

    __slots__ = (
        "_claim",
        "_holding",
        "_last",
        "_lease",
        "_publish_soon",
        "_publisher",
        "_store",
        "_token",
        "_topics",
        "_tried",
        "is_renewable",
        "topic",
    )

    def __init__(self, publisher: Publisher, store: EventStore, topic: str, lease: float) -> None:
        self._publisher = publisher
        self._publish_soon = publisher.publish_held_soon
        self._store = store
        self._holding: HoldingStore = holding_store(store)
        self._topics = TopicFilter(topic)
        self._lease = lease
        self._token = ""
        self._claim = Claim(topic, None, None)
        self._tried: set[str] = set()
        self._last = EventId("", -1)
        self.topic: str = topic
        self.is_renewable = True
        """Whether the lease may be renewed by another task than the one that appends."""

    async def begin(self, record: RunRecord, expected: str | None) -> None:
        """Claim the topic. HoldLostError if it does not have the token that is expected."""
        token = new_token()
        self._tried.add(token)
        claim = Claim(self.topic, expected, token, record.dump(), self._lease, clear=True)
        await self._publisher.publish_held([], claim)
        self._hold(token)

    def has_tried(self, token: str) -> bool:
        """Whether this log has tried to take the topic with this token."""
        return token in self._tried

    def hold_if_tried(self, token: str) -> bool:
        """Return whether the topic is this log's: it has this token now, which this log has tried to give it."""
        is_ours = self.has_tried(token)
        if is_ours:
            self._hold(token)
        return is_ours

    async def renew(self) -> None:
        """Renew the lease. HoldLostError if it was lost; StoreUnavailableError."""
        token = self._token
        try:
            await self._publisher.publish_held([], Claim(self.topic, token, token, seconds=self._lease))
        except HoldLostError:
            if self.is_renewable and token == self._token:
                raise

    async def append(self, payloads: Sequence[bytes]) -> None:
        """Append events, however long the store is down. HoldLostError if the lease was lost."""
        items = [(self.topic, payload) for payload in payloads]
        try:
            ids = await self._publisher.publish_held(items, self._claim)
        except StoreUnavailableError as exc:
            await self.append_patiently(items, exc)
        else:
            self._last = ids[-1]

    @property
    def can_append_soon(self) -> bool:
        """Whether an append can be begun without a task that waits for it."""
        return self._publish_soon is not None

    def append_soon(self, payload: bytes, on_done: OnHeldDone) -> list[tuple[str, bytes]]:
        """Begin to append an event; return its items. Call kept(), or append_patiently(), when it is done."""
        assert self._publish_soon is not None
        items = [(self.topic, payload)]
        self._publish_soon(items, self._claim, on_done)
        return items

    def kept(self, ids: list[EventId]) -> None:
        """Note what append_soon() has appended."""
        self._last = ids[-1]
        self._publisher.note_published(len(ids))

    async def append_patiently(self, items: list[tuple[str, bytes]], error: StoreUnavailableError) -> None:
        """Append what an append failed with, unless it was kept. HoldLostError if the lease was lost."""
        _logger.warning("the run of %r waits: %s", self.topic, error)
        self.is_renewable = False
        while True:
            await sleep(RETRY_SECONDS)
            try:
                await self._take_new_token()
                if not await self._was_kept():
                    ids = await self._publisher.publish_held(items, self._claim)
                    self._last = ids[-1]
            except StoreUnavailableError:
                continue
            self.is_renewable = True
            return

    async def _take_new_token(self) -> None:
        token = new_token()
        self._tried.add(token)
        try:
            await self._publisher.publish_held([], Claim(self.topic, self._token, token, seconds=self._lease))
        except HoldLostError:
            held = await self._holding.held(self.topic)
            if held is None or not self.hold_if_tried(held.token):
                raise  # otherwise an earlier try was kept, and its answer was lost
        else:
            self._hold(token)

    def _hold(self, token: str) -> None:
        self._token = token
        self._claim = Claim(self.topic, token, token)

    async def _was_kept(self) -> bool:
        events = (await self._store.read_last(self._topics, 1)).events
        if not events or events[-1].id.sequence <= self._last.sequence:
            return False
        self._last = events[-1].id
        return True

    async def end(self, mark: bytes, record: RunRecord) -> RunRecord | None:
        """Append the mark of the end, however long the store is down.

        Return how the run has ended: so, or as another process has said before. None if that can't be told any more, or
        if the store was closed: a cancellation may be of both.
        """
        self.is_renewable = False
        claim = Claim(self.topic, self._token, new_token(), record.dump(), record.ttl)
        while True:
            try:
                return await self._try_end(mark, claim, record)
            except StoreUnavailableError:
                await sleep(RETRY_SECONDS)
            except ClosedResourceError:
                return None

    async def _try_end(self, mark: bytes, claim: Claim, record: RunRecord) -> RunRecord | None:
        try:
            await self._publisher.publish_held([(self.topic, mark)], claim)
        except HoldLostError:
            held = await self._holding.held(self.topic)
            there = None if held is None else RunRecord.load(held)
            # If it is ours, the first try was kept, and its answer was lost.
            return there if there is not None and there.run == record.run and not there.is_running else None
        return record
