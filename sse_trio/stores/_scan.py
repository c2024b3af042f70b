# How much of a log one step of a search looks at, so that whoever shares a loop, a thread or a server gets a turn.
#
# Rule 1: what a step costs is stated, whatever is asked for: the more prefixes each event is compared with, the fewer
#         events it looks at.

from __future__ import annotations

from ._topics import TopicFilter

__all__ = ("events_of_a_step",)

_PREFIXES_FOR_THE_PRICE_OF_ONE = 16


def events_of_a_step(most: int, topics: TopicFilter) -> int:
    """Return how many events a step may look at, of ``most`` for a few prefixes."""
    return max(1, most // (1 + len(topics.prefixes) // _PREFIXES_FOR_THE_PRICE_OF_ONE))
