# What a store keeps beside the events of a run, and what users see of it.
#
# Rule 1: the record is JSON, so that a program in another language, or of a newer release, can read it. Names that are
#         not known are ignored.
# Rule 2: a record says all that another process needs to end the run, or to forget it: nothing of that is asked of the
#         process that ran it.

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, cast, final

from ..stores._holds import Held
from .ending import RunReason, RunState

__all__ = ("RunRecord", "RunStatus")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A snapshot of a run, from whichever process."""

    key: str
    state: RunState
    """``running``, or how it has ended."""
    reason: RunReason | None
    """What ended it; ``None`` while it runs, and if it has completed."""
    started_at: float
    """Seconds since 1970."""
    ended_at: float | None
    """Seconds since 1970; ``None`` while it runs."""
    labels: Mapping[str, str]
    """As given to ``start()``."""
    is_here: bool
    """Whether it runs in this process."""
    watchers: int
    """Responses of this process that watch it."""
    events: int | None
    """Events that its producer has sent; ``None`` if it does not run in this process."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What is stored."""

    owner: str
    """The name of the ``open_runs()`` that it runs in: its control topic ends in it."""
    lease: float
    ttl: float
    run: str = ""
    """Which of the runs that have had the key it is; empty if a release has stored it that did not say."""
    state: RunState = "running"
    reason: RunReason | None = None
    started: float = field(default_factory=time.time)
    ended: float | None = None
    unwatched: float | None = None
    """``stop_when_unwatched``."""
    labels: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def is_running(self) -> bool:
        """Whether nobody has said that it has ended."""
        return self.state == "running"

    def ended_as(self, state: RunState, reason: RunReason | None) -> RunRecord:
        """Return the record of this run after its end."""
        return replace(self, state=state, reason=reason, ended=time.time())

    def dump(self) -> bytes:
        """Return the value that a store keeps."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def load(cls, held: Held) -> RunRecord:
        """Return the record in a store's value."""
        names = {each.name for each in fields(cls)}
        value = cast("dict[str, Any]", json.loads(held.value))
        return cls(**{name: given for name, given in value.items() if name in names})

    def status(self, key: str, *, is_here: bool, watchers: int, events: int | None) -> RunStatus:
        """Return what a user sees of it."""
        return RunStatus(
            key=key,
            state=self.state,
            reason=self.reason,
            started_at=self.started,
            ended_at=self.ended,
            labels=self.labels,
            is_here=is_here,
            watchers=watchers,
            events=events,
        )
