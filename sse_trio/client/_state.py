# The state of an event source: what its properties show, and what calls on_state_change.
#
# Rule 1: CLOSED is final. Nothing changes the state after it.
# Rule 2: on_state_change runs where the state changes, before anything else happens. What it raises comes out there.

from __future__ import annotations

import enum
from collections.abc import Callable, Coroutine

import httpx

__all__ = ("ConnectionState", "SourceState")


class ConnectionState(enum.Enum):
    """The state of an event source: the ``readyState`` of WHATWG HTML 9.2.2."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


class SourceState:
    """Whether an event source is connected, and why its connections ended."""

    __slots__ = ("attempt", "connect_at", "connection", "error", "failure", "on_change", "response")
    attempt: int
    connect_at: float
    connection: ConnectionState

    def __init__(self) -> None:
        self.connection = ConnectionState.CONNECTING
        self.response: httpx.Response | None = None
        self.attempt = 1
        self.connect_at = 0.0
        self.error: Exception | None = None
        """Why the previous connection ended."""
        self.failure: Exception | None = None
        """What the iteration raises next. It has reached the end then."""
        self.on_change: Callable[[], object] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether there will be no further connection."""
        return self.connection is ConnectionState.CLOSED

    def enter(self, connection: ConnectionState) -> None:
        """Change the state, unless it is CLOSED, and say so."""
        if not self.is_closed:
            self.connection = connection
            if self.on_change is not None:
                _refuse_coroutine(self.on_change())

    def connect_again(self, at: float) -> None:
        """Make the next attempt at this time."""
        self.attempt += 1
        self.connect_at = at
        self.enter(ConnectionState.CONNECTING)

    def close(self, failure: Exception | None = None) -> None:
        """Make no further attempt. The iteration raises the failure, if there is one."""
        self.failure = failure
        self.enter(ConnectionState.CLOSED)

    def take_failure(self) -> Exception | None:
        """Return what the iteration has to raise, once."""
        failure, self.failure = self.failure, None
        return failure


def _refuse_coroutine(result: object) -> None:
    """Raise TypeError for a coroutine: an async function can hide behind a plain one, as in a lambda."""
    if isinstance(result, Coroutine):
        result.close()
        raise TypeError(
            "on_state_change must be a function that returns its result at once, because it is not awaited; "
            "it returned a coroutine"
        )
