# An append: what one call wants to be kept, what comes of it, and how many of them are committed together. No I/O, no
# event loop.
#
# Rule 1: the writers of the stores take these from the tasks of a store (_group_commit.py) and from the threads of a
#         Publisher (publisher/_commits.py).

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from ._holds import Claim
from ._protocol import EventId

__all__ = ("AGAIN", "LOST", "Append", "Result", "group_length")

Result: TypeAlias = "list[EventId] | Literal[-1, -2]"
"""The result of one append: its ids, or, of one with a claim, LOST or AGAIN."""
LOST: Final = -1
"""The topic of its claim has another token. Nothing was changed."""
AGAIN: Final = -2
"""A part of the topic was cleared; the append is to be made again for the remainder."""

# These bound how long one commit keeps the next group waiting; a larger append is a group alone.
_LARGEST_GROUP = 1000  # appends
_LARGEST_GROUP_BYTES = 1024 * 1024


class Append:
    """The events of one append, each a topic and a payload, and its key or its claim."""

    __slots__ = ("claim", "items", "key", "size")

    def __init__(
        self, items: Sequence[tuple[str, bytes]], key: tuple[str, int] | None, claim: Claim | None = None
    ) -> None:
        self.items = items
        self.key = key
        self.claim = claim
        self.size = sum([len(payload) for _, payload in items])


def group_length(waiting: Sequence[Append]) -> int:
    """Return how many of these appends, from the first one on, are committed together."""
    count = size = 0
    for append in waiting[:_LARGEST_GROUP]:
        size += append.size
        if count and size > _LARGEST_GROUP_BYTES:
            break
        count += 1
    return count
