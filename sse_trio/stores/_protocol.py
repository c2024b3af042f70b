# What a hub asks of a store: the protocol, and the values that pass between the two. No I/O, no anyio.
#
# Rule 1: a store gives ids, keeps order, decides gaps. The hub fans out. Neither does the other's work.
# Rule 2: a payload is opaque to a store. It is the event's wire form without an id, made by `pack_event`, so that the
#         wire form with its id is one concatenation (`StoredEvent.encode`) and nothing is parsed on the way.
# Rule 3: `EventId` is the one place that knows what an id looks like on the wire.

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .._arguments.checks import wrong
from .._wire.event import ServerSentEvent, check_sep
from ._topics import TopicFilter

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ("EventId", "EventStore", "Gap", "Page", "StoredEvent", "new_epoch", "pack_event", "unpack_event")

_LONGEST_SEQUENCE = 18  # decimal digits: fits 64 bits, and int() of a hostile header stays cheap
_LONGEST = 200  # characters of an id: ours have less than 30, and a client is told in its gap what it came with


def new_epoch() -> str:
    """Return a name for a history that starts now: eight hexadecimal digits, random."""
    return secrets.token_hex(4)


class EventId(NamedTuple):
    """``<epoch>-<sequence>``: the place of an event in the history of a hub.

    Within an epoch sequences grow with every event of the hub, whatever its topic, so one id is a place in all
    topics at once. Ids of different epochs can't be compared: they are of different histories.
    """

    epoch: str
    sequence: int

    def __repr__(self) -> str:
        return f"EventId({self.epoch!r}, {self.sequence})"

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}" if self.sequence >= 0 else self.epoch

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Return the id that a client named as its last; ``str()`` of it is ``text`` again, cut at 200 characters.

        Never raises: a client may send anything. What no store has made becomes an id that no store knows, which
        a store answers with a gap; and what UTF-8 can't carry becomes a question mark.
        """
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST - 3]}..."
        if not text.isascii():
            text = text.encode(errors="replace").decode()
        epoch, _, digits = text.rpartition("-")
        canonical = digits.isascii() and digits.isdecimal() and (digits == "0" or digits[0] != "0")
        if epoch and canonical and len(digits) <= _LONGEST_SEQUENCE:
            return cls(epoch, int(digits))
        return cls(text, -1)


class StoredEvent(NamedTuple):
    """An event as a store keeps it."""

    id: EventId
    topic: str
    payload: bytes
    """The event's wire form with LF and without an id, as ``pack_event`` makes it."""

    def encode(self, sep: str = "\n") -> bytes:
        r"""Return the event as it is on the wire, its id included; ``sep`` as in ``ServerSentEvent.encode``."""
        wire = f"id: {self.id}\n".encode() + self.payload
        # Exact: in a wire form every LF is a line end, and there is no CR.
        return wire if sep == "\n" else wire.replace(b"\n", check_sep(sep).encode())

    @property
    def event(self) -> ServerSentEvent:
        """The event as it was published, with the id that it was given."""
        return unpack_event(self.payload, str(self.id))


class Gap(NamedTuple):
    """Events that the asker has not seen are gone, or it can't be known which it has seen."""

    after: EventId
    """The id that was asked for."""
    oldest: EventId | None
    """The first event that is left to deliver, or ``None`` if there is none."""


class Page(NamedTuple):
    """A part of the history, in order."""

    events: tuple[StoredEvent, ...]
    next: EventId
    """Up to here these are all events that are kept. It may be newer than the last one: what lies between was of
    other topics. The page was the last one if ``next == tip``."""
    gap: Gap | None
    """Said before the events: some were missed between the id that was asked for and ``trimmed_to``."""
    tip: EventId
    """The newest id that the hub had given when this page was read."""
    trimmed_to: EventId
    """Of the topics asked for, the newest event that is no longer kept. Older ones may still be: each topic loses its
    own oldest. So who reads on from this page knows already that the history is not whole up to here."""


class EventStore(Protocol):
    """Keeps the events of one hub, in order, and gives them back by id. An async context manager that owns its tasks.

    What every store promises; ``sse_trio.testing.check_event_store`` checks it, in these words:

    *order*: ids grow with each event of the hub, and are never given twice, also across restarts and processes.
    The events of one ``append`` are neighbours, in the order given.

    *durable*: when ``append`` returns, its events are kept to the level that the store states. They are visible to
    each later ``read``. An ``append`` is kept whole or not at all.

    *idempotent*: an ``append`` with a ``key`` that was used before changes nothing and returns the ids of the first
    one. A key is remembered for at least ten minutes, or until the store's history ends.

    *unknown outcome*: an ``append`` that was cancelled, or that raised ``StoreUnavailableError``, may or may not have
    happened; only a ``key`` makes it safe to try again. Cancelling one call never disturbs another, however often.

    *gap*: ``read`` says whether the asker missed something, exactly: a gap is reported if and only if an event of
    the topics asked for, newer than ``after``, is no longer kept, or ``after`` is of another epoch, or is newer than
    anything in this one. After a gap of the first kind the events that are left and newer than ``after`` follow; after
    the others everything that is kept. (A store may report a gap rather than none in two cases: for topics that have
    no event left, beyond the latest 100,000 of them; and for a prefix of more than eight levels, where something below
    its first eight is gone.)

    A reader who reads on from a page is told of what was trimmed meanwhile, and not again of what is older than
    the page's ``trimmed_to``.

    *join*: reading from an id page by page until ``next == tip``, and from there what a follower gets, is each event
    once.

    *follow*: every event of the hub after an id, in order, exactly once, through restarts of what the store is made
    on. If events were trimmed before they could be delivered, or history was lost, a page says so with its ``gap``.

    *retention*: the oldest go first, at the ``append`` that exceeds a limit of number or size; for their age within a
    tenth of the limit, or a minute, whichever is less. Never is less kept than the limits allow, and the newest event
    of a hub or topic is not trimmed for its size. Time never goes back in a log: no event is taken to be older than the
    one before it, and one that was stamped ahead of the clock is as old as the first look at it.

    *cost*: a question looks at no topic but those that it names or that are below its prefixes, and at a bounded number
    of events at a time; what takes longer leaves the event loop to others in between.

    *epoch*: a history that is lost, in whole or in an unknown part, gets a new epoch, so that no old id fits it.
    """

    @property
    def epoch(self) -> str:
        """The name of the history that the ids are of. It changes if the history is lost. Valid once entered."""
        ...

    async def __aenter__(self) -> Self:
        """Open the store. Raises :exc:`StoreUnavailableError` if what it is made on can't be reached or used."""
        ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None:
        """Finish what was accepted, end the tasks, let go of files and connections."""
        ...

    async def append(self, items: Sequence[tuple[str, bytes]], *, key: tuple[str, int] | None = None) -> list[EventId]:
        """Add events, each a topic and a payload, and return their ids when they are durable.

        Args:
            items: all or none of them will be kept, as neighbours.
            key: ``(producer, sequence)``; a second append with the same key returns the ids of the first.

        Raises:
            StoreUnavailableError: the store is down; the outcome is unknown. Nobody's fault here.
            ClosedResourceError: the store is not open. The caller's fault.
            TypeError, ValueError: an item or a key that is none; nothing was appended. The caller's fault.

        Checkpoint: always. Cancellation: the outcome is unknown.
        """
        ...

    async def read(self, topics: TopicFilter, after: EventId | Page | None, *, limit: int = 256) -> Page:
        """Return the events after ``after``, at most ``limit`` of them, the oldest first. Never waits for new ones.

        A page can have fewer events than ``limit``, even none, and not be the last: see :attr:`Page.next`.

        Args:
            topics: whose events.
            after: the last id that the asker has seen; or the page to read on from, which was of the same topics;
                or ``None`` for everything that is kept, which is no gap.
            limit: 1 or more.

        Raises: as ``append``. Checkpoint: always. Cancellation: leaves nothing behind.
        """
        ...

    async def read_last(self, topics: TopicFilter, count: int) -> Page:
        """Return the newest ``count`` events, the oldest of them first; ``next`` is the tip. Never a gap.

        ``count`` may be 0: that asks for the tip alone. Raises, checkpoint, cancellation: as ``read``.
        """
        ...

    def follow(self, after: EventId) -> AbstractAsyncContextManager[AsyncIterator[Page]]:
        """Deliver all that is appended to the hub after ``after``, by whomever, in pages that are never empty.

        One for each process: the hub's. It waits where there is nothing, and while the store is down, and raises
        no :exc:`StoreUnavailableError`. Checkpoint: each ``__anext__``; one that is cancelled loses no page.
        """
        ...


def pack_event(event: ServerSentEvent) -> bytes:
    """Return the payload that a store keeps for ``event``.

    Raises:
        ValueError: it has an id. In a hub the store gives the ids, or they would have no order.
    """
    if event.id is not None:
        wanted = "None, because the hub gives each event its id (put an id of your own into the data)"
        raise wrong(ValueError, "id", wanted, event.id)
    return event.encode()


def unpack_event(payload: bytes, id: str | None = None) -> ServerSentEvent:  # noqa: A002 -- ServerSentEvent's own name
    """Return the event that ``pack_event`` made this payload of, with ``id``."""
    fields: dict[str, list[str]] = {}
    for line in payload.decode().split("\n")[:-2]:  # the last two are the end of the last line and of the event
        name, _, value = line.partition(": ")
        fields.setdefault(name, []).append(value)
    return ServerSentEvent(
        _joined(fields, "data"),
        event=_joined(fields, "event"),
        id=id,
        retry=int(fields["retry"][0]) if "retry" in fields else None,
        comment=_joined(fields, ""),
    )


def _joined(fields: dict[str, list[str]], name: str) -> str | None:
    return "\n".join(fields[name]) if name in fields else None
