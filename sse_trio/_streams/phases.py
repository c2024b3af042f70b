# Phase: what a stream's writer is doing. Outcome: how it has ended.

from __future__ import annotations

from enum import Enum

__all__ = (
    "ABANDONED",
    "ENDED",
    "FAILED",
    "FINISHED",
    "FLUSHING",
    "GONE",
    "IDLE",
    "NEW",
    "RUNNING",
    "STARTING",
    "Outcome",
    "Phase",
)


class Phase(Enum):
    """What the writer is doing.

    ======== ============================================ ==============================
    phase    it is                                        it goes to
    ======== ============================================ ==============================
    NEW      made, not started                            IDLE: start(); STARTING; ENDED
    IDLE     waiting for something to write               STARTING: unpark(); ENDED
    STARTING woken: its task runs in the next pass        RUNNING
    RUNNING  writing                                      IDLE, FLUSHING, ENDED
    FLUSHING everything is written, but not flushed       STARTING, ENDED: flush_now()
    ENDED    done; `outcome` says how
    ======== ============================================ ==============================
    """

    NEW = "new"
    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    FLUSHING = "flushing"
    ENDED = "ended"


NEW, IDLE, STARTING, RUNNING, FLUSHING, ENDED = Phase  # a member of an Enum costs a look-up in the class


class Outcome(Enum):
    """How the writer ended."""

    FINISHED = "finished"
    """Everything was written."""
    GONE = "gone"
    """`send` raised because the client has disconnected."""
    FAILED = "failed"
    """`send` raised another exception: `error`."""
    ABANDONED = "abandoned"
    """The stream called abandon()."""


FINISHED, GONE, FAILED, ABANDONED = Outcome  # see above
