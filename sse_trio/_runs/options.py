# The options of open_runs() and of one run, checked where they are given.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from .._arguments.checks import check_count, check_function, check_grace, check_labels, check_seconds, wrong
from .ending import OnEnd

__all__ = ("RunOptions", "RunsOptions")

LEAST_LEASE = 0.1
"""Seconds. A shorter lease would be renewed all the time, and lost in a pause of the garbage collector."""


LONGEST_LEASE = 86_400
"""Seconds. A longer one says that nobody is to notice."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunsOptions:
    """The options of open_runs(), which documents them."""

    ttl: float
    lease: float
    grace: float
    on_end: OnEnd | None
    max_events: int | None
    max_bytes: int | None
    max_duration: float | None
    stop_when_unwatched: float | None

    def __post_init__(self) -> None:
        check_seconds("ttl", self.ttl, zero=True, none="")
        check_seconds("lease", self.lease, zero=False, none="")
        if not LEAST_LEASE <= self.lease <= LONGEST_LEASE:
            raise wrong(ValueError, "lease", f"a number of seconds, from {LEAST_LEASE} to {LONGEST_LEASE}", self.lease)
        check_grace("grace", self.grace)
        if self.on_end is not None:
            check_function("on_end", self.on_end, "a function of a RunEnd that returns an event, or None")
        for name, limit in (("max_events", self.max_events), ("max_bytes", self.max_bytes)):
            if limit is not None:
                check_count(name, limit, none=", or None for no limit")
        check_times(self.max_duration, self.stop_when_unwatched)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of one run."""

    max_duration: float | None
    stop_when_unwatched: float | None
    labels: Mapping[str, str]

    def __post_init__(self) -> None:
        check_times(self.max_duration, self.stop_when_unwatched)
        check_labels(self.labels)


def check_times(max_duration: float | None, stop_when_unwatched: float | None) -> None:
    """Check the two times that may end a run."""
    if max_duration is not None:
        check_seconds("max_duration", max_duration, zero=False, none=", or None for no limit")
    if stop_when_unwatched is not None:
        check_seconds("stop_when_unwatched", stop_when_unwatched, zero=True, none=", or None to run on")
