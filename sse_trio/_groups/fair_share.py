# Who has had a share of a rate that all have in common, and who was told when to come again.
#
# Rule 1: shares are looked at only while there is not enough for everybody: who opens several streams at once on an
#         idle server is nobody's rival.
# Rule 2: then each of the n clients that had a share lately, or wants one, gets one part in n of what comes in, evenly
#         and not in bursts. What was there when that began, half of the bucket, is for the next who comes.
# Rule 3: a client is known by the hash of its key. Both tables are bounded by the rate, whatever clients call
#         themselves and however long that is.

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import final

__all__ = ("FairShare",)

LEAST_AT_ONCE = 4
"""Clients between which even the lowest rate is divided: lately is a second, or as long as it takes for so many."""


@final
class FairShare:
    """The clients that have had a share lately, and those that were refused one and told their turn."""

    __slots__ = ("_lately", "_per_second", "_taken", "_turns")

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._lately = max(1.0, LEAST_AT_ONCE / per_second)
        self._taken: OrderedDict[int, float] = OrderedDict()  # who had one last is last
        self._turns: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._taken) + len(self._turns)

    def wait_of(self, key: Hashable, now: float) -> float:
        """Return the seconds after which this client may have one more share; 0 or less for now."""
        _forget(self._taken, now - self._lately)
        last = self._taken.get(hash(key))
        if last is None:
            return 0.0
        return last + min(self._lately, len(self._taken) / self._per_second) - now

    def take(self, key: Hashable, now: float) -> None:
        """Note that it has had one."""
        _forget(self._taken, now - self._lately)
        self._taken.pop(hash(key), None)
        self._taken[hash(key)] = now

    def turn_of(self, key: Hashable, now: float) -> float | None:
        """Return the seconds until the turn that this client was told, if that is still to come."""
        _forget(self._turns, now)
        turn = self._turns.get(hash(key))
        return None if turn is None else turn - now

    def tell(self, key: Hashable, turn: float) -> None:
        """Note its turn. Turns are told in their order."""
        self._turns[hash(key)] = turn


def _forget(times: OrderedDict[int, float], until: float) -> None:
    while times and next(iter(times.values())) <= until:
        times.popitem(last=False)
