# The history of some topics as a value, without subscribing.

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from .._wire.event import ServerSentEvent
from ..stores._holds import is_deletion
from ..stores._protocol import EventId, Page
from ..stores._topics import TopicFilter
from .state import HubState

__all__ = ("HubHistory", "read_history")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HubHistory:
    """Events that a hub keeps. Made by ``Hub.history()``."""

    events: tuple[ServerSentEvent, ...]
    """The oldest first, each with its id and its topic."""
    position: str
    """Where to go on: ``after=`` of the next history, or of a subscription, which then misses nothing."""
    is_complete: bool
    """Whether there was nothing more at that moment."""
    has_gap: bool
    """Whether some events newer than ``after`` are gone."""


async def read_history(
    hub: HubState, topics: TopicFilter, after: str | None, last: int | None, limit: int
) -> HubHistory:
    """Read the history as ``Hub.history()`` says."""
    if last is not None:
        return _as_history([await hub.read_last(topics, last)])
    pages = [await hub.read(topics, None if after is None else EventId.parse(after), limit)]
    while (left := limit - sum([len(page.events) for page in pages])) and pages[-1].next != pages[-1].tip:
        pages.append(await hub.read(topics, pages[-1], left))
    return _as_history(pages)


def _as_history(pages: list[Page]) -> HubHistory:
    stored = [event for page in pages for event in page.events]
    return HubHistory(
        events=tuple([event.event for event in stored if not is_deletion(event.payload)]),
        position=str(pages[-1].next),
        is_complete=pages[-1].next == pages[-1].tip,
        has_gap=any(page.gap is not None for page in pages),
    )
