# What start() returns, the figures of a process, and who is told of a run that has ended. Values, nothing else.

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

from .record import RunStatus

__all__ = ("Run", "RunObserver", "RunsStatistics")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that ``Runs.start()`` has started or found."""

    key: str
    started_here: bool
    """Whether this very call has started it; ``False`` if it was there."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunsStatistics:
    """What the runs of this process are doing, and have done."""

    name: str
    """The prefix, as given to ``open_runs()``."""
    running: int
    """Runs of this process now."""
    watchers: int
    """Responses of this process that watch a run, here or elsewhere."""
    started: int
    """Runs that this process has started."""
    completed: int
    """Runs of this process that have completed."""
    failed: int
    """Runs of this process that have failed."""
    stopped: int
    """Runs of this process that were stopped."""
    interrupted: int
    """Runs of this process that were interrupted."""
    events: int
    """Events that runs of this process have sent."""


class RunObserver(Protocol):
    """What is told of each run that ends: see ``Runs.add_observer()``."""

    def run_ended(self, run: RunStatus, /) -> object:
        """Note a run that has ended. It is called in the context of the call that started the run."""
        ...
