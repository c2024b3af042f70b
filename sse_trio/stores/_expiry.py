# Events that expire: the mark by which everybody knows them, and what a store promises that takes them.
#
# Rule 1: the moment when an event expires is in its payload: its first line, `:expires <seconds>`, by the clock of the
#         store. So whoever has the event knows it, however it came: from a log, a page, another process.
# Rule 2: expiry is not a gap. Nobody has missed anything: the event was not meant to be seen any more.
# Rule 3: no read returns an event after its moment. It is deleted soon after that, and its place is free for others.
# Rule 4: a follower may deliver one, because pages must not be empty; a hub leaves it out.

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, runtime_checkable

from ._arguments import check_wait
from ._protocol import EventStore, Page, StoredEvent

__all__ = (
    "EXPIRES",
    "ExpiringStore",
    "check_ttl",
    "due_of",
    "expiring",
    "expiring_store",
    "read_last",
    "unexpired",
    "with_ttl",
)

EXPIRES = b":expires "
"""How the payload of an event that expires begins. No other does: comments of users begin with ``: ``."""
_MARK: Final = re.compile(rb":expires (-?[0-9]+\.[0-9]{6})\n")
_SHORTEST = 0.001  # seconds


@runtime_checkable
class ExpiringStore(Protocol):
    """What a store has besides :class:`EventStore` for ``hub.publish(ttl=)``.

    The payload of an event that expires begins with the line ``:expires <moment>``, a number of seconds by
    ``expiry_clock()``; the rest is a payload as any other.

    *expiry*: from its moment on no read returns the event, and that is no gap. The store deletes it soon after, within
    a minute, and it counts no more against any limit.
    """

    def expiry_clock(self) -> float:
        """Return the time in seconds, the same in all processes that have the store open. From any thread."""
        ...


def expiring_store(store: EventStore) -> ExpiringStore:
    """Return the store. TypeError if its events can't expire."""
    if not isinstance(store, ExpiringStore):
        msg = (
            f"ttl must be None: events can't expire in the store of this hub, a {type(store).__name__}, which has no "
            "expiry_clock(), see docs/stores.md"
        )
        raise TypeError(msg)
    return store


def check_ttl(ttl: float) -> float:
    """Return the seconds until an event expires. TypeError or ValueError for anything but that."""
    check_wait("ttl", ttl, least=_SHORTEST, none=", or None")
    return ttl


def expiring(items: list[tuple[str, bytes]], due: float) -> list[tuple[str, bytes]]:
    """Return the items of events that expire at this moment."""
    mark = EXPIRES + f"{due:.6f}\n".encode()  # 17 characters until 2286
    return [(topic, mark + payload) for topic, payload in items]


def with_ttl(items: list[tuple[str, bytes]], ttl: float | None, clock: Callable[[], float]) -> list[tuple[str, bytes]]:
    """Return the items of events that expire after these seconds by this clock, or never for ``None``."""
    return items if ttl is None else expiring(items, check_ttl(ttl) + clock())


def due_of(payload: bytes) -> float | None:
    """Return the moment when an event expires, or None."""
    found = _MARK.match(payload)
    return None if found is None else float(found[1])


def unexpired(page: Page, now: float) -> Page:
    """Return the page without what has expired."""
    for event in page.events:
        if event.payload.startswith(EXPIRES):
            return page._replace(events=tuple([event for event in page.events if _is_live(event, now)]))
    return page


def _is_live(event: StoredEvent, now: float) -> bool:
    due = due_of(event.payload)
    return due is None or due > now


async def read_last(read: Callable[[int], Awaitable[Page]], count: int, clock: Callable[[], float]) -> Page:
    """Read the newest events that have not expired, with a function that reads the newest."""
    asked = count
    while True:
        page = await read(asked)
        live = unexpired(page, clock())
        if len(live.events) >= count or len(page.events) < asked:
            return live._replace(events=live.events[max(0, len(live.events) - count) :])
        asked *= 2
