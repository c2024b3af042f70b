# What is gone, of names that may be many: the newest sequence that was trimmed of each.
#
# Rule 1: only so many names are remembered, and so many bytes of them: those that changed last. Of all others one
#         number is kept, the newest that was forgotten: a gap may then be reported where there is none, and never none
#         where there is one.
# Rule 2: what is gone below a prefix is noted when it goes, since whoever joins must not look at every topic there was.
#         That is for a few levels, since a name of nothing but "/" has as many prefixes as characters. Of a deeper
#         prefix the end is that of its first levels: at least as new, so again rather a gap too many.

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import final

from ._retention import MAX_FORGOTTEN
from ._topics import MAX_TOPIC

__all__ = ("LEVELS", "Ends", "noted_prefix", "prefixes_of", "size_of_name")

LEVELS = 8
"""How many levels of a topic are prefixes of which the end is noted."""


@final
class Ends:
    """The newest sequence that is gone, by name."""

    __slots__ = ("_ends", "_floor", "_max_bytes", "_size")

    def __init__(self, max_bytes: int = MAX_FORGOTTEN * MAX_TOPIC) -> None:
        self._ends: OrderedDict[str, int] = OrderedDict()  # what changed last is last
        self._floor = 0
        self._max_bytes = max_bytes  # of names
        self._size = 0

    def __len__(self) -> int:
        return len(self._ends)

    def of(self, name: str) -> int:
        """The newest sequence that is gone of this name, 0 if none is."""
        return self._ends.get(name, self._floor)

    def raise_to(self, name: str, end: int) -> None:
        """Note that this sequence is gone."""
        self._ends[name] = max(end, self.pop(name))
        self._size += size_of_name(name)
        while len(self._ends) > MAX_FORGOTTEN or self._size > self._max_bytes:
            oldest, gone = self._ends.popitem(last=False)
            self._size -= size_of_name(oldest)
            self._floor = max(self._floor, gone)

    def pop(self, name: str) -> int:
        """Forget a name, and return what `of` has said of it."""
        end = self._ends.pop(name, None)
        if end is None:
            return self._floor
        self._size -= size_of_name(name)
        return end


def size_of_name(name: str) -> int:
    """The bytes that a topic's name counts."""
    return len(name) if name.isascii() else len(name.encode())


def prefixes_of(topic: str) -> Iterator[str]:
    """The prefixes that a topic is below, the shortest first, as far as their ends are noted."""
    slash = topic.find("/")
    for _ in range(LEVELS):
        if slash < 0:
            return
        yield topic[: slash + 1]
        slash = topic.find("/", slash + 1)


def noted_prefix(prefix: str) -> str:
    """The prefix of which the end is noted: itself, or its first levels."""
    *_, deepest = prefixes_of(prefix)
    return deepest
