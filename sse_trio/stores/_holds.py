# Topics that are held: a topic with one writer at a time, whose events retention leaves alone. What runs are made of.
#
# Rule 1: a hold is a record beside a topic: a token, a value that the store does not read, and the time when it is due.
#         Whoever knows the token may append and change the record; a change of the token shuts out its former owner,
#         and whatever that one still has under way.
# Rule 2: checking the token, clearing the topic, appending and changing the record are one step, kept whole or not at
#         all. Everything that runs do is one such step.
# Rule 3: the clock of the store decides when a hold is due: processes and machines need not agree on the time.
# Rule 4: `Hub.delete()` appends a mark with the same step, in the topic that it clears, so that every process hears of
#         it in the order of the hub.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

from .._arguments.checks import check_count, wrong
from ._arguments import check_items, check_wait
from ._protocol import EventId
from ._topics import check_topic

__all__ = (
    "ANYONE",
    "DELETED",
    "Claim",
    "Held",
    "HoldingStore",
    "NowaitHoldingStore",
    "OnHeldDone",
    "SoonHoldingStore",
    "append_held_soon_of",
    "check_claim",
    "check_held_due",
    "is_deletion",
)

ANYONE = "*"
"""Instead of the expected token: whether the topic is held or not, and by whom."""
DELETED = b":deleted\n"
"""How the payload of the mark of a deletion begins. No event that is published does: its comments begin with ``: ``."""


class Claim(NamedTuple):
    """One step on a held topic. With the fields left out it only checks that the token is still the owner's."""

    topic: str
    expected: str | None
    """The token that the topic must have now; ``None``: it must not be held."""
    token: str | None
    """The token from now on; ``None``: the topic is not held any more."""
    value: bytes | None = None
    """What to keep beside the topic; ``None``: as it was."""
    seconds: float | None = None
    """When the hold is due, from now; ``None``: as it was."""
    clear: bool = False
    """Whether the topic's events go first."""


class Held(NamedTuple):
    """A held topic, as the store knows it."""

    topic: str
    token: str
    value: bytes
    due_in: float
    """Seconds until the hold is due; negative when it was due before."""
    end: EventId
    """The newest event of the topic when its value was last set."""


@runtime_checkable
class HoldingStore(Protocol):
    """What a store has besides :class:`EventStore` for runs, and for ``Hub.delete()``.

    ``sse_trio.testing.check_event_store`` checks these promises too, under the names:

    *hold*: of several claims that expect the same token, one is kept, and the others raise :exc:`HoldLostError` and
    change nothing. An append with a claim is whole, and follows every earlier one of the topic.

    *held*: while a topic is held, its events stay, whatever other topics or the limits of the store ask for. For a
    prefix and for ``*`` they may go, and that is a gap there; whoever names the topic reads all of them.

    *clear*: the events of a topic that was cleared are gone for every reader. A reader that had not seen all of them
    gets a gap. Other topics keep theirs.

    A store with ``append_nowait`` has ``append_held_nowait`` too.
    """

    async def append_held(self, items: Sequence[tuple[str, bytes]], claim: Claim) -> list[EventId]:
        """Make a claim, and add events in the same step. Otherwise as ``append``.

        Raises:
            HoldLostError: the topic has another token than was expected. Nothing was changed.
        """
        ...

    async def held(self, topic: str) -> Held | None:
        """Return the record of a held topic. Otherwise as ``read``."""
        ...

    async def held_due(self, prefix: str, *, limit: int = 100) -> list[Held]:
        """Return the records of held topics below a prefix, those first that are due first, also if none is due."""
        ...


class NowaitHoldingStore(Protocol):
    """What a store with ``append_nowait`` has besides."""

    def append_held_nowait(self, items: Sequence[tuple[str, bytes]], claim: Claim) -> list[EventId]:
        """Do what ``append_held`` does, at once."""
        ...


OnHeldDone: TypeAlias = "Callable[[list[EventId] | Exception], None]"
"""Is called with the ids of an append, or with what ``append_held`` raises. It must not raise."""


class SoonHoldingStore(Protocol):
    """What a store of ours has besides, unless it has ``append_nowait``: no task has to wait for an event of a run."""

    def append_held_soon(self, items: Sequence[tuple[str, bytes]], claim: Claim, on_done: OnHeldDone) -> None:
        """Begin to do what ``append_held`` does, and call ``on_done`` when it is done, later, in the event loop.

        The caller vouches for the claim, which clears nothing, and for the items. ClosedResourceError if the store is
        not open.
        """
        ...


def append_held_soon_of(store: object) -> Callable[[Sequence[tuple[str, bytes]], Claim, OnHeldDone], None] | None:
    """Return the store's ``append_held_soon``, if it has one."""
    return getattr(store, "append_held_soon", None)


def is_deletion(payload: bytes) -> bool:
    """Whether this is the mark of a deletion."""
    return payload.startswith(DELETED)


def check_claim(items: Sequence[tuple[str, bytes]], claim: Claim) -> tuple[list[tuple[str, bytes]], Claim]:
    """Return both. TypeError or ValueError for a bad item or claim; ValueError for an item of another topic."""
    if not isinstance(cast("object", claim), Claim):
        raise wrong(TypeError, "claim", "a Claim", claim)
    check_topic(claim.topic)
    for name, token in (("expected", claim.expected), ("token", claim.token)):
        if token is not None and (not isinstance(cast("object", token), str) or not token):
            raise wrong(TypeError, name, "a str that is not empty, or None", token)
    if claim.value is not None and (not isinstance(cast("object", claim.value), bytes) or not claim.value):
        raise wrong(TypeError, "value", "bytes that are not empty, or None", claim.value)
    check_wait("seconds", claim.seconds, least=0, none=", or None")
    if claim.token is None and not claim.clear:
        raise ValueError("clear must be True if token is None: a topic that is not held any more begins anew")
    if all(_is_of(item, claim.topic) for item in items):
        return [*items], claim  # what runs do for each event
    checked = check_items(items)
    for topic, _ in checked:
        if topic != claim.topic:
            raise wrong(ValueError, "each item", f"of the topic {claim.topic!r}", topic)
    return checked, claim


def _is_of(item: tuple[str, bytes], topic: str) -> bool:
    # Whether an item needs no more checks: its topic is the very object that the claim names.
    return type(item) is tuple and len(item) == 2 and item[0] is topic and type(item[1]) is bytes


def check_held_due(prefix: str, limit: int) -> None:
    """Check the arguments of ``held_due``."""
    if not isinstance(cast("object", prefix), str) or not prefix.endswith("/"):
        raise wrong(ValueError, "prefix", "a str that ends in /", prefix)
    check_count("limit", limit)
