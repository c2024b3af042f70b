# Where reading starts and whether something was missed: the one decision about gaps, as a pure function.
#
# Rule 1: a topic is trimmed from its oldest end only, so of any selection of topics one number says it all: the newest
#         sequence that is gone. Somebody who has seen everything up to that number has missed nothing.
# Rule 2: an id that this history has not given tells nothing about what its owner has seen: that is a gap, and
#         reading starts from the beginning.

from __future__ import annotations

from typing import NamedTuple

from ._protocol import EventId, Gap, Page, StoredEvent

__all__ = ("Start", "asked_for", "make_page", "start_reading")


class Start(NamedTuple):
    """Where to read from, in the order of the sequences."""

    sequence: int
    missed: bool


def asked_for(after: EventId | Page | None) -> tuple[EventId | None, int]:
    """Return the id to read after, and the sequence up to which the asker knows that events are gone."""
    return (after.next, after.trimmed_to.sequence) if isinstance(after, Page) else (after, 0)


def start_reading(after: EventId | Page | None, tip: EventId, trimmed_to: int) -> Start:
    """Decide from where to read, in a history that ends at ``tip`` and is not whole up to ``trimmed_to``."""
    id_, told = asked_for(after)
    if id_ is None:
        return Start(0, missed=False)
    if id_.epoch != tip.epoch or not 0 <= id_.sequence <= tip.sequence:
        return Start(0, missed=True)
    return Start(id_.sequence, missed=trimmed_to > max(id_.sequence, told))


def make_page(
    after: EventId | Page | None,
    start: Start,
    events: tuple[StoredEvent, ...],
    last: int,
    tip: EventId,
    trimmed_to: int,
) -> Page:
    """Return the page that answers a read: ``events`` are all there are up to ``last``."""
    id_, _ = asked_for(after)
    gap = Gap(id_, events[0].id if events else None) if id_ is not None and start.missed else None
    return Page(events, EventId(tip.epoch, last), gap, tip, EventId(tip.epoch, trimmed_to))
