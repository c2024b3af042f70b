# How old an event is when a clock was wrong. No I/O: the state is a few pairs of numbers, and the Redis script
# (_redis/scripts/) computes the same.
#
# Rule 1: time never goes back in a log. An event gets the clock's time as its stamp, or the stamp of the event before
#         it if the clock says less. So a clock that is slow for a while makes no event look old.
# Rule 2: if a stamp is ahead of the clock, one of the two is wrong, and the store can't know which. It keeps the stamp
#         and adds a cut, a pair (sequence, time): "no event up to this one is younger than this time". While the stamp
#         is ahead, the cut's time counts as the event's; once the clock has passed the stamp, the stamp counts again.
# Rule 3: of cuts that are close together in time only the first and the last are kept. There are never more than a few
#         hundred, and an event goes at most a hundredth of the longest age too late, and never too early.

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import final

from ._retention import KEY_SECONDS

__all__ = ("Cuts",)

_TOLERANCE = 1.0  # seconds, or a tenth of max_age: the clocks of several machines may differ by that


@final
class Cuts:
    """The cuts of one history.

    Args:
        pairs: the cuts, each a sequence and a time; both grow.
        ages: the shortest and the longest age of any event, in seconds, or None.
        remember_keys: seconds for which keys are remembered.
    """

    def __init__(
        self,
        pairs: Iterable[tuple[int, float]],
        ages: tuple[float | None, float | None],
        remember_keys: float = KEY_SECONDS,
    ) -> None:
        shortest, longest = ages
        self.pairs = [*pairs]
        self._age = max(remember_keys, longest or 0.0)
        self._tolerance = min(_TOLERANCE, math.inf if shortest is None else shortest / 10)

    def see(self, now: float, latest: float, sequence: int) -> None:
        """Compare the clock with ``latest``, the latest stamp of the events up to ``sequence``; add or drop cuts."""
        if latest <= now:
            self.pairs.clear()
        elif latest > now + self._tolerance:
            self._cut(now, sequence)

    def _cut(self, now: float, sequence: int) -> None:
        while self.pairs and self.pairs[-1][1] > now:
            self.pairs.pop()
        if self.pairs and self.pairs[-1][0] >= sequence:
            return  # an earlier cut covers the same events
        if len(self.pairs) > 1 and now - self.pairs[-2][1] < self._age / 100:
            self.pairs.pop()
        self.pairs.append((sequence, now))

    def time_of(self, sequence: int, stamp: float, now: float) -> float:
        """Return the time that counts for an event."""
        if stamp <= now:
            return stamp
        return min([stamp, *(time for upto, time in self.pairs if sequence <= upto)])

    def older_than(self, time: float) -> int:
        """Return the newest sequence up to which all events with a stamp ahead are older than ``time``, or 0."""
        return max((upto for upto, cut in self.pairs if cut < time), default=0)

    def forget(self, now: float) -> None:
        """Drop cuts whose events and keys have gone."""
        self.pairs = [pair for pair in self.pairs if pair[1] >= now - 2 * self._age]
