# FairShare: divides a rate among the clients, and remembers the turns of those that were refused.
#
# Rule 1: shares matter only while the rate is scarce. A client may open several streams at once on an idle server.
# Rule 2: while it is scarce, each of the n clients that had a share lately, or want one, gets one n-th of the rate,
#         evenly and not in bursts. The half of the bucket that is left at that moment is for new clients.
# Rule 3: a client is remembered by the hash of its key. The rate bounds the size of both tables, whatever keys clients
#         choose and however long the keys are.

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import final

__all__ = ("FairShare",)

LEAST_AT_ONCE = 4
"""Even the lowest rate is divided among this many clients: "lately" is a second, or the time that they need."""


@final
class FairShare:
    """The clients that had a share lately, and the turns of those that were refused."""

    __slots__ = ("_lately", "_per_second", "_taken", "_turns")

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._lately = max(1.0, LEAST_AT_ONCE / per_second)
        self._taken: OrderedDict[int, float] = OrderedDict()  # the latest is last
        self._turns: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._taken) + len(self._turns)

    def wait_of(self, key: Hashable, now: float) -> float:
        """Return the seconds until this client may have another share. 0 or less means now."""
        _forget(self._taken, now - self._lately)
        last = self._taken.get(hash(key))
        if last is None:
            return 0.0
        return last + min(self._lately, len(self._taken) / self._per_second) - now

    def take(self, key: Hashable, now: float) -> None:
        """Record that this client takes a share."""
        _forget(self._taken, now - self._lately)
        self._taken.pop(hash(key), None)
        self._taken[hash(key)] = now

    def turn_of(self, key: Hashable, now: float) -> float | None:
        """Return the seconds until this client's turn; ``None`` if it has no turn, or the turn is over."""
        _forget(self._turns, now)
        turn = self._turns.get(hash(key))
        return None if turn is None else turn - now

    def give_turn(self, key: Hashable, turn: float) -> None:
        """Record the time of a client's turn. Times must not decrease from call to call."""
        self._turns[hash(key)] = turn


def _forget(times: OrderedDict[int, float], until: float) -> None:
    while times and next(iter(times.values())) <= until:
        times.popitem(last=False)
