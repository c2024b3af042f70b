# How much a store keeps: limits as a value, the same for every store. No I/O.
#
# Rule 1: a limit is crossed by what is above it, never by what is at it: with max_events=3 three events stay.
# Rule 2: the newest event survives limits of size, however large it is. Otherwise an event could be gone before
#         anybody was sent it.
# Rule 3: a limit of age for each topic is one for the hub: an event is as old in its topic as it is in the hub.

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("KEY_SECONDS", "MAX_FORGOTTEN", "Retention", "narrowest_age")

KEY_SECONDS = 600.0
"""How long the key of an append is remembered at least: far longer than anybody retries one publish."""
MAX_FORGOTTEN = 100_000
"""Of so many topics that have no event left the end is remembered, for exact gaps; about 100 bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Limits of what is kept; ``None`` for no limit. The oldest events go first.

    Raises:
        ValueError: a limit that is not positive.
    """

    max_events: int | None = None
    """Number of events."""
    max_age: float | None = None
    """Seconds."""
    max_bytes: int | None = None
    """Bytes of payload; what a store needs beside that is not counted."""

    def __post_init__(self) -> None:
        for name in ("max_events", "max_age", "max_bytes"):
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                raise ValueError(f"{name}={limit!r} would keep nothing; None is for no limit")

    def exceeded_by(self, events: int, size: int) -> bool:
        """Whether the oldest of ``events`` events of ``size`` bytes in all has to go."""
        too_many = self.max_events is not None and events > self.max_events
        return too_many or (self.max_bytes is not None and size > self.max_bytes and events > 1)


def narrowest_age(hub: Retention, topic: Retention) -> float | None:
    """The age in seconds at which events go, by whichever limit is first."""
    return min((age for age in (hub.max_age, topic.max_age) if age is not None), default=None)
