# Ages where clocks were wrong. Pure: what is known is a few pairs of numbers, the same in SQLite as in Redis' script.
#
# Rule 1: time never goes back in a log: an event is stamped with the clock, or as the one before it where the clock
#         says less. A clock that is behind for a while makes nothing old.
# Rule 2: a stamp ahead of the clock is either wrong, or the clock is. So the stamp stays, and a cut is noted beside it:
#         "up to this event nothing is younger than this time", which is when that was seen. While a stamp is ahead, its
#         event is as old as its cut says; when the clock has come to it, the stamp counts again.
# Rule 3: of cuts that are close together in time the first and the last are kept: there are never more than some
#         hundreds, and an event goes a hundredth of its age too late, and never early.

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import final

from ._retention import KEY_SECONDS

__all__ = ("Cuts",)

_TOLERANCE = 1.0  # seconds, or a tenth of max_age: by that the clocks of several machines differ


@final
class Cuts:
    """What is known of stamps that are ahead of the clock.

    Args:
        pairs: a sequence, and the time that no event up to it is younger than; both grow.
        max_age: of events, in seconds, or None.
    """

    def __init__(self, pairs: Iterable[tuple[int, float]], max_age: float | None) -> None:
        self.pairs = [*pairs]
        self._age = max(KEY_SECONDS, max_age or 0.0)
        self._tolerance = min(_TOLERANCE, math.inf if max_age is None else max_age / 10)

    def see(self, now: float, latest: float, sequence: int) -> None:
        """Note what the clock says, where the latest stamp up to ``sequence`` is ``latest``."""
        if latest <= now:
            self.pairs.clear()
        elif latest > now + self._tolerance:
            self._cut(now, sequence)

    def _cut(self, now: float, sequence: int) -> None:
        while self.pairs and self.pairs[-1][1] > now:
            self.pairs.pop()
        if self.pairs and self.pairs[-1][0] >= sequence:
            return  # an earlier one says more
        if len(self.pairs) > 1 and now - self.pairs[-2][1] < self._age / 100:
            self.pairs.pop()
        self.pairs.append((sequence, now))

    def time_of(self, sequence: int, stamp: float, now: float) -> float:
        """The time that an event is reckoned to be of."""
        if stamp <= now:
            return stamp
        return min([stamp, *(time for upto, time in self.pairs if sequence <= upto)])

    def older_than(self, time: float) -> int:
        """The newest sequence up to which every event whose stamp is ahead is older than ``time``; 0 if none is."""
        return max((upto for upto, cut in self.pairs if cut < time), default=0)

    def forget(self, now: float) -> None:
        """Let go of cuts whose events, and keys, have gone."""
        self.pairs = [pair for pair in self.pairs if pair[1] >= now - 2 * self._age]
