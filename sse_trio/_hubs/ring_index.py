# The index of rings: which of them an event belongs to, found by its topic.
#
# Rule 1: a look-up costs no more than the topic has levels, however many topics and prefixes have a ring: topics are in
#         a table, and prefixes in a tree of their levels.
# Rule 2: a ring exists while a feed has it. The tree has a node for a level while there is a ring at it or below it.

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from ..stores._topics import TopicFilter
from .ring import Ring, RingLimits

__all__ = ("RingIndex",)


@final
class _Node:
    # The prefixes that begin with the same levels. The ring is that of the prefix which has these levels and no more.

    __slots__ = ("children", "ring")

    def __init__(self) -> None:
        self.ring: Ring | None = None
        self.children: dict[str, _Node] = {}


@final
class RingIndex:
    """The rings of a hub."""

    __slots__ = ("_exact", "_limits", "_root")

    def __init__(self, limits: RingLimits) -> None:
        self._limits = limits
        self._exact: dict[str, Ring] = {}
        self._root = _Node()

    def open(self, topics: TopicFilter, place: int) -> tuple[Ring, ...]:
        """Return the rings of these topics. A new one has every event after this place."""
        exact = [self._open_exact(topic, place) for topic in sorted(topics.exact)]
        return (*exact, *[self._open_prefix(prefix, place) for prefix in topics.prefixes])

    def _open_exact(self, topic: str, place: int) -> Ring:
        ring = self._exact.get(topic)
        if ring is None:
            ring = self._exact[topic] = Ring(topic, place, self._limits)
        return ring

    def _open_prefix(self, prefix: str, place: int) -> Ring:
        node = self._root
        for level in _levels_of(prefix):
            node = node.children.setdefault(level, _Node())
        if node.ring is None:
            node.ring = Ring(f"{prefix}*", place, self._limits)
        return node.ring

    def remove(self, ring: Ring) -> None:
        """Forget a ring that has no feed any more."""
        if not ring.pattern.endswith("*"):
            del self._exact[ring.pattern]
            return
        levels = _levels_of(ring.pattern[:-1])
        path = [self._root]
        for level in levels:
            path.append(path[-1].children[level])
        path[-1].ring = None
        while levels and path[-1].ring is None and not path[-1].children:
            path.pop()
            del path[-1].children[levels.pop()]

    def rings_of(self, topic: str) -> list[Ring]:
        """Return the rings that an event of this topic belongs to."""
        ring, node = self._exact.get(topic), self._root
        rings = [] if ring is None else [ring]
        if node.ring is not None:
            rings.append(node.ring)
        if node.children:
            for level in _levels_of(topic):  # its last level is a prefix of nothing
                child = node.children.get(level)
                if child is None:
                    break
                node = child
                if node.ring is not None:
                    rings.append(node.ring)
        return rings

    def rings(self) -> Iterator[Ring]:
        """Go through every ring, in no order."""
        yield from self._exact.values()
        nodes = [self._root]
        while nodes:
            node = nodes.pop()
            if node.ring is not None:
                yield node.ring
            nodes.extend(node.children.values())


def _levels_of(text: str) -> list[str]:
    # Of a prefix "a/b/", or of what is above a topic "a/b/c": "a" and "b".
    return text.split("/")[:-1]
