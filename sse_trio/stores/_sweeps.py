# Finding the events that are too old for their topic, where topics have different ages. No I/O.
#
# Rule 1: events are looked at in their order, once for each age, up to the first that is younger. A mark says up to
#         where that was done. It is kept in memory: a process that starts looks at all old events again.
# Rule 2: a step looks at a bounded number of events, so that publishers wait for one step at most.
# Rule 3: events of a held topic are passed over. They go when it is cleared.

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, final

from ._topic_limits import TopicLimits

__all__ = ("SWEPT_AT_ONCE", "Step", "Sweeps", "look_at")

SWEPT_AT_ONCE = 2000
"""Events that one step looks at, for each age."""

Looked = tuple[int, str, int, float]
"""Sequence, topic, bytes and stamp of an event."""


class Step(NamedTuple):
    """What a step found for one age."""

    gone: list[tuple[int, str, int]]
    """Sequence, topic and bytes of each event that has to go."""
    upto: int
    """The sequence up to which events were looked at."""
    looked_at: int


def look_at(
    events: Iterable[Looked], after: int, is_old: Callable[[int, float], bool], goes: Callable[[str], bool]
) -> Step:
    """Find what has to go, of events after this sequence: those that are old, and whose topic goes by this age."""
    gone: list[tuple[int, str, int]] = []
    upto, count = after, 0
    for sequence, topic, size, stamp in events:
        if not is_old(sequence, stamp):
            break
        if goes(topic):
            gone.append((sequence, topic, size))
        upto, count = sequence, count + 1
    return Step(gone, upto, count)


@final
class Sweeps:
    """The marks of one process, in one history."""

    __slots__ = ("_epoch", "_marks", "limits")

    def __init__(self, limits: TopicLimits) -> None:
        self.limits = limits
        self._marks = dict.fromkeys(limits.ages, 0)
        self._epoch = ""

    def marks(self, epoch: str) -> dict[float, int]:
        """Return the sequence to go on from, for each age. A new history is looked at from its beginning."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._marks = dict.fromkeys(self._marks, 0)
        return {**self._marks}

    def note(self, steps: Mapping[float, Step]) -> bool:
        """Note steps that were committed. Return whether there may be more to look at."""
        self._marks |= {age: step.upto for age, step in steps.items()}
        return any(step.looked_at == SWEPT_AT_ONCE for step in steps.values())
