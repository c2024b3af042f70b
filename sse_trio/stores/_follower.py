# The cursor of a follower.
#
# Rule 1: the cursor moves when a page is returned, with no await in between. So a cancelled `__anext__` neither loses
#         a page nor returns one twice.

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import final

from ._protocol import EventId, Page
from ._topics import TopicFilter

__all__ = ("ALL_TOPICS", "FOLLOWED_AT_ONCE", "Follower")

ALL_TOPICS = TopicFilter("*")
FOLLOWED_AT_ONCE = 256
"""Events in one page of a follower: enough to catch up fast, few enough to fit in memory when events are large."""


@final
class Follower(AsyncIterator[Page]):
    """Asks ``wait_page(after)`` for page after page."""

    def __init__(self, wait_page: Callable[[EventId | Page], Awaitable[Page]], after: EventId) -> None:
        self._wait_page = wait_page
        self._after: EventId | Page = after

    async def __anext__(self) -> Page:
        page = await self._wait_page(self._after)
        self._after = page
        return page
