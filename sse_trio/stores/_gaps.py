# Gaps: where a read starts, and whether the reader has missed events. The stores decide here; the Redis script
# (_redis/scripts/) decides in the same way. Pure functions.
#
# A subscriber gets one `event: gap` for it, which History.add_page() (_hubs/history.py) puts in front of what the page
# with `gap=True` brings. With overflow="drop_oldest" what is lost is only counted (_hubs/reading.py).
#
# Rule 1: a topic loses its oldest events first. So one number, the newest sequence that is gone, decides for any
#         selection of topics: a reader that has seen everything up to that number has missed nothing.
# Rule 2: an id that this history never gave says nothing about what its owner has seen. That is a gap, and the read
#         starts at the beginning.

from __future__ import annotations

from typing import NamedTuple

from ._protocol import EventId, Gap, Page, StoredEvent

__all__ = ("Start", "asked_for", "make_page", "start_reading")


class Start(NamedTuple):
    """The sequence to read after, and whether events were missed."""

    sequence: int
    missed: bool


def asked_for(after: EventId | Page | None) -> tuple[EventId | None, int]:
    """Return the id to read after, and the sequence up to which the reader knows that events are gone."""
    return (after.next, after.trimmed_to.sequence) if isinstance(after, Page) else (after, 0)


def start_reading(after: EventId | Page | None, tip: EventId, trimmed_to: int) -> Start:
    """Decide where to start, in a history that ends at ``tip`` and has lost events up to ``trimmed_to``."""
    id_, known_to = asked_for(after)
    if id_ is None:
        return Start(0, missed=False)
    if id_.epoch != tip.epoch or not 0 <= id_.sequence <= tip.sequence:
        return Start(0, missed=True)
    return Start(id_.sequence, missed=trimmed_to > max(id_.sequence, known_to))


def make_page(
    after: EventId | Page | None,
    start: Start,
    events: tuple[StoredEvent, ...],
    last: int,
    tip: EventId,
    trimmed_to: int,
) -> Page:
    """Return the page for a read: ``events`` are all that there are up to ``last``."""
    id_, _ = asked_for(after)
    gap = Gap(id_, events[0].id if events else None) if id_ is not None and start.missed else None
    return Page(events, EventId(tip.epoch, last), gap, tip, EventId(tip.epoch, trimmed_to))
