# How many events one step of a search looks at. Between two steps other users of the loop, the thread or the Redis
# server get their turn.
#
# Rule 1: a step costs about the same for every search: the more prefixes an event is compared with, the fewer events a
#         step looks at.

from __future__ import annotations

from ._topics import TopicFilter

__all__ = ("events_of_a_step",)

_PREFIXES_AT_NO_COST = 16  # with more prefixes than that, a step looks at fewer events


def events_of_a_step(most: int, topics: TopicFilter) -> int:
    """Return the events that a step may look at: ``most`` for a few prefixes, fewer for many."""
    return max(1, most // (1 + len(topics.prefixes) // _PREFIXES_AT_NO_COST))
