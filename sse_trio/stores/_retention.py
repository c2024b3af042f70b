# How much a store keeps: limits as a value, the same for every store. No I/O.
#
# Rule 1: a limit is the most that is kept: with max_events=3 three events stay.
# Rule 2: the newest event survives the limits of size, however large it is. Otherwise an event could be gone before any
#         subscriber got it.

from __future__ import annotations

from dataclasses import dataclass

from ._arguments import check_limit, check_wait

__all__ = (
    "KEY_SECONDS",
    "MAX_FORGOTTEN",
    "Retention",
    "check_remember_keys",
    "maintenance_interval",
)

_SHORTEST_AGE = 0.01  # seconds
_MAINTAINED_EVERY = 60.0  # seconds, or a tenth of max_age where that is less
_MAINTAINED_AT_MOST_EVERY = 0.01  # seconds: a tiny max_age must not keep a store busy

KEY_SECONDS = 600.0
"""Seconds for which the key of an append is remembered by default: far longer than a publisher retries."""
MAX_FORGOTTEN = 100_000
"""Topics without events whose ends are remembered, for exact gaps; about 100 bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Limits of what a store keeps; ``None`` means no limit. The oldest events go first.

    Raises:
        TypeError: a limit that is not a number.
        ValueError: a limit that is not positive, or too large.
    """

    max_events: int | None = None
    """Number of events."""
    max_age: float | None = None
    """Seconds."""
    max_bytes: int | None = None
    """Bytes of payload; a store's overhead is not counted."""

    def __post_init__(self) -> None:
        check_limit("max_events", self.max_events)
        check_wait("max_age", self.max_age, least=_SHORTEST_AGE, none=", or None for no limit")
        check_limit("max_bytes", self.max_bytes)

    @property
    def limits_size(self) -> bool:
        """Whether there is a limit of number or of bytes."""
        return self.max_events is not None or self.max_bytes is not None

    def exceeded_by(self, events: int, size: int) -> bool:
        """Whether the oldest event has to go, of ``events`` events with ``size`` bytes together."""
        too_many = self.max_events is not None and events > self.max_events
        return too_many or (self.max_bytes is not None and size > self.max_bytes and events > 1)


def check_remember_keys(seconds: float) -> float:
    """Return the time for which keys are remembered. TypeError or ValueError for anything but that."""
    check_wait("remember_keys", seconds, least=1.0)
    return seconds


def maintenance_interval(max_age: float | None) -> float:
    """Return the seconds between two looks for events that are too old."""
    return (
        _MAINTAINED_EVERY if max_age is None else max(_MAINTAINED_AT_MOST_EVERY, min(_MAINTAINED_EVERY, max_age / 10))
    )
