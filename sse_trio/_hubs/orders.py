# What the processes of a hub tell each other through its log (stores/_kicks.py) is no event for subscribers.

from __future__ import annotations

from ..stores._kicks import KICKS
from ..stores._protocol import Page
from ..stores._topics import TopicFilter

__all__ = ("without_orders",)


def without_orders(topics: TopicFilter, page: Page) -> Page:
    """Return what subscribers of these topics may see of a page."""
    if not topics.matches(KICKS):
        return page
    return page._replace(events=tuple([event for event in page.events if event.topic != KICKS]))
