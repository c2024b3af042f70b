# The protocol of a store, and the values that pass between a hub and its store. No I/O, no anyio.
#
# Rule 1: the store gives ids, keeps the order and decides gaps; the hub fans out. Neither does the other's work.
# Rule 2: a payload is opaque to a store. It is the event's wire form without an id, made by `pack_event`, so that the
#         wire form with the id is one concatenation (`StoredEvent.encode`), and nothing is parsed on the way.
# Rule 3: only `EventId` knows what an id looks like on the wire.

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .._arguments.checks import wrong
from .._wire.event import ServerSentEvent, check_sep, with_topic
from ._topics import TopicFilter

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = (
    "AppendNowait",
    "EventId",
    "EventStore",
    "Gap",
    "Page",
    "StoredEvent",
    "append_nowait_of",
    "new_epoch",
    "pack_event",
    "unpack_event",
)

_LONGEST_SEQUENCE = 18  # decimal digits: fits 64 bits, and int() of a hostile header stays cheap
_LONGEST = 200  # characters of an id: ours have fewer than 30, and a gap event repeats the id that the client sent


def new_epoch() -> str:
    """Return a name for a history that starts now: eight hexadecimal digits, random."""
    return secrets.token_hex(4)


class EventId(NamedTuple):
    """``<epoch>-<sequence>``: the position of an event in the history of a hub.

    Within an epoch the sequence grows with every event of the hub, whatever its topic, so one id is a position in
    all topics at once. Ids of different epochs belong to different histories and can't be compared.
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

        Never raises, because a client may send anything. A text that no store has made becomes an id that no store
        knows, so a read after it reports a gap. Characters that UTF-8 can't carry become question marks.
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
        """The event as it was published, with its id and its topic."""
        return with_topic(unpack_event(self.payload, str(self.id)), self.topic)


class Gap(NamedTuple):
    """Events that the reader has not seen are gone, or the store can't know which it has seen."""

    after: EventId
    """The id that the reader named."""
    oldest: EventId | None
    """The first event that can still be delivered, or ``None``."""


class Page(NamedTuple):
    """A part of the history, in order."""

    events: tuple[StoredEvent, ...]
    next: EventId
    """These are all the kept events up to this id. It may be newer than the last event, if events of other topics
    follow. The page is the last one if ``next == tip``."""
    gap: Gap | None
    """The gap before the events: some between the id that the reader named and ``trimmed_to`` are gone."""
    tip: EventId
    """The newest id of the hub when this page was read."""
    trimmed_to: EventId
    """The newest event of these topics that is no longer kept. Older ones may still be there, because each topic
    loses its own oldest events. A reader that goes on from this page knows of the gap up to here."""


class EventStore(Protocol):
    """Keeps the events of one hub, in order, and gives them back by id. An async context manager that owns its tasks.

    Every store makes these promises; ``sse_trio.testing.check_event_store`` checks them under these names:

    *order*: ids grow with each event of the hub, and are never given twice, also across restarts and processes.
    The events of one ``append`` are neighbours, in the order given.

    *durable*: when ``append`` returns, its events are kept to the level that the store states. They are visible to
    each later ``read``. An ``append`` is kept whole or not at all.

    *idempotent*: an ``append`` with a ``key`` that was used before changes nothing and returns the ids of the first
    one. A key is remembered for at least ten minutes, or until the store's history ends.

    *unknown outcome*: an ``append`` that was cancelled, or that raised ``StoreUnavailableError``, may or may not have
    happened, and so may one that was under way when the store was closed; only a ``key`` makes it safe to try again.
    Cancelling one call never disturbs another.

    *gap*: ``read`` reports exactly whether the reader missed events: there is a gap if and only if an event of these
    topics, newer than ``after``, is no longer kept, or ``after`` is of another epoch, or is newer than
    anything in this one. After a gap of the first kind the kept events newer than ``after`` follow; after the others,
    all kept events. (A store may report a gap rather than none in two cases: for topics that have
    no event left, beyond the latest 100,000 of them; and for a prefix of more than eight levels, where something below
    its first eight is gone.)

    A reader that goes on from a page gets a gap for what was trimmed meanwhile, and no second one for what is older
    than the page's ``trimmed_to``.

    *join*: reading from an id page by page until ``next == tip``, and from there what a follower gets, is each event
    once.

    *follow*: every event of the hub after an id, in order, exactly once, even if the server behind the store
    restarts. If events were trimmed before they could be delivered, or history was lost, a page has a ``gap``.

    *retention*: the oldest go first, at the ``append`` that exceeds a limit of number or size; for their age within a
    tenth of the limit, or a minute, whichever is less. A store never keeps less than the limits allow, and never trims
    the newest event of a hub or topic for its size. Time never goes back in a log: no event counts as older than the
    one before it, and an event stamped ahead of the clock is as old as the first look at it.

    *cost*: a read looks only at the topics that it names and those below its prefixes, and at a bounded number of
    events at a time; a longer search lets other tasks run in between.

    *epoch*: if a history is lost, in whole or in an unknown part, it gets a new epoch, so that no old id fits.

    Optional: ``append_nowait(items, *, key=None) -> list[EventId]``, for a store that only this process writes to and
    that never has to wait. It is ``append`` without a checkpoint, and keeps every promise above. A hub looks for it
    once, when it is opened. If the store has it, the hub appends with it, passes the events on to its subscribers at
    once, and never calls ``follow``.
    """

    @property
    def epoch(self) -> str:
        """The name of the history that the ids belong to. It changes if the history is lost. Valid once entered."""
        ...

    async def __aenter__(self) -> Self:
        """Open the store. Raises :exc:`StoreUnavailableError` if its file or server can't be reached or used."""
        ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None:
        """Finish the accepted appends, end the tasks, close files and connections."""
        ...

    async def append(self, items: Sequence[tuple[str, bytes]], *, key: tuple[str, int] | None = None) -> list[EventId]:
        """Add events, each a topic and a payload, and return their ids when they are durable.

        Args:
            items: the store keeps all or none of them, next to each other.
            key: ``(producer, sequence)``; a second append with the same key returns the ids of the first.

        Raises:
            StoreUnavailableError: the store is down; the outcome is unknown.
            ClosedResourceError: the store is not open.
            TypeError, ValueError: a bad item or key; nothing was appended.

        Checkpoint: always. Cancellation: the outcome is unknown.
        """
        ...

    async def read(self, topics: TopicFilter, after: EventId | Page | None, *, limit: int = 256) -> Page:
        """Return the events after ``after``, at most ``limit`` of them, the oldest first. Never waits for new ones.

        A page can have fewer events than ``limit``, even none, and not be the last: see :attr:`Page.next`.

        Args:
            topics: the topics of the events.
            after: the last id that the reader has seen; or the page to go on from, which was of the same topics;
                or ``None`` for all kept events, without a gap.
            limit: 1 or more.

        Raises: as ``append``. Checkpoint: always. Cancellation: leaves nothing behind.
        """
        ...

    async def read_last(self, topics: TopicFilter, count: int) -> Page:
        """Return the newest ``count`` events, the oldest of them first; ``next`` is the tip. Never a gap.

        ``count`` may be 0, to get the tip alone. Raises, checkpoint, cancellation: as ``read``.
        """
        ...

    def follow(self, after: EventId) -> AbstractAsyncContextManager[AsyncIterator[Page]]:
        """Deliver every event of the hub after ``after``, from all processes, in pages that are never empty.

        The hub opens one for each process. It waits while there is nothing to deliver and while the store is down,
        and never raises :exc:`StoreUnavailableError`. Checkpoint: each ``__anext__``; a cancelled one loses no page.
        """
        ...


class AppendNowait(Protocol):
    """The optional ``append_nowait`` of a store: see :class:`EventStore`."""

    def __call__(self, items: Sequence[tuple[str, bytes]], *, key: tuple[str, int] | None = None) -> list[EventId]:
        """Add events as ``append`` does, at once."""
        ...


def append_nowait_of(store: EventStore) -> AppendNowait | None:
    """Return the store's ``append_nowait``, if it has one."""
    return getattr(store, "append_nowait", None)


def pack_event(event: ServerSentEvent) -> bytes:
    """Return the payload to store for ``event``.

    Raises:
        ValueError: it has an id. The store gives the ids; otherwise they would have no order.
    """
    if event.id is not None:
        wanted = "None, because the hub gives each event its id (put an id of your own into the data)"
        raise wrong(ValueError, "id", wanted, event.id)
    wire = event.encode()
    # With its id, a comment or `retry` is a block of its own, and the stored form has always had the blank line.
    return wire if wire == b"\n" or wire.endswith(b"\n\n") else wire + b"\n"


def unpack_event(payload: bytes, id: str | None = None) -> ServerSentEvent:  # noqa: A002 -- ServerSentEvent's own name
    """Return the event that ``pack_event`` made this payload from, with ``id``."""
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
