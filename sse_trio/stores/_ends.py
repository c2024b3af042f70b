# The end of each topic and prefix: the sequence of the newest event that retention has taken from it. Gaps are
# computed from ends (_gaps.py).
#
# Rule 1: the number and the bytes of the names kept are bounded; those that changed last stay. One number, the floor,
#         stands for all forgotten names: the newest end among them. So a store may report a gap that there was not, and
#         never misses one.
# Rule 2: an event's end is noted for each prefix of its topic when the event goes, so that a read of a prefix needs no
#         look at every topic. Only the first levels are noted, because a name of slashes alone has as many prefixes as
#         characters. A deeper prefix uses the end of its first levels, which is at least as new: again a gap too many
#         rather than one too few.

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import final

from ._retention import MAX_FORGOTTEN
from ._topics import MAX_TOPIC

__all__ = ("LEVELS", "Ends", "noted_prefix", "prefixes_of", "size_of_name")

LEVELS = 8
"""The levels of a topic that are noted as prefixes."""


@final
class Ends:
    """The newest sequence that is gone, for each name."""

    __slots__ = ("_ends", "_floor", "_max_bytes", "_size")

    def __init__(self, max_bytes: int = MAX_FORGOTTEN * MAX_TOPIC) -> None:
        self._ends: OrderedDict[str, int] = OrderedDict()  # the latest change last
        self._floor = 0
        self._max_bytes = max_bytes  # of names
        self._size = 0

    def __len__(self) -> int:
        return len(self._ends)

    def of(self, name: str) -> int:
        """Return the newest sequence that is gone from this name, or 0."""
        return self._ends.get(name, self._floor)

    def raise_to(self, name: str, end: int) -> None:
        """Note that the events of this name up to ``end`` are gone."""
        self._ends[name] = max(end, self.pop(name))
        self._size += size_of_name(name)
        while len(self._ends) > MAX_FORGOTTEN or self._size > self._max_bytes:
            oldest, gone = self._ends.popitem(last=False)
            self._size -= size_of_name(oldest)
            self._floor = max(self._floor, gone)

    def pop(self, name: str) -> int:
        """Forget a name, and return its end."""
        end = self._ends.pop(name, None)
        if end is None:
            return self._floor
        self._size -= size_of_name(name)
        return end


def size_of_name(name: str) -> int:
    """Return the size of a name in UTF-8."""
    return len(name) if name.isascii() else len(name.encode())


def prefixes_of(topic: str) -> Iterator[str]:
    """Yield the prefixes of a topic whose ends are noted, the shortest first."""
    slash = topic.find("/")
    for _ in range(LEVELS):
        if slash < 0:
            return
        yield topic[: slash + 1]
        slash = topic.find("/", slash + 1)


def noted_prefix(prefix: str) -> str:
    """Return the noted prefix whose end counts for ``prefix``: itself, or its first levels."""
    *_, deepest = prefixes_of(prefix)
    return deepest
