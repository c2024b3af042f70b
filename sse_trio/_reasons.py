# Why a stream ended, and why one was not opened. The whole lists; every ending is one of the first (C2).

from __future__ import annotations

from enum import Enum

__all__ = ("CloseReason", "RefusalReason")


class CloseReason(Enum):
    """Why a stream ended. The first reason counts; what happens while it ends changes nothing."""

    COMPLETED = "completed"
    """Every send channel was closed, and every event and the final frame were written."""
    DISCONNECTED = "disconnected"
    """The client went away."""
    SHUTDOWN = "shutdown"
    """The server or the :class:`StreamGroup` is shutting down."""
    SEND_TIMEOUT = "send_timeout"
    """A write to the client took longer than ``send_timeout`` seconds."""
    LIFETIME = "lifetime"
    """The stream reached its ``max_lifetime``."""
    KICKED = "kicked"
    """``StreamGroup.close()`` ended it, or its channel overflowed with ``overflow="close"``."""
    CANCELLED = "cancelled"
    """The task that served it was cancelled from outside."""
    FAILED = "failed"
    """A producer, the source or the server's ``send`` raised."""


class RefusalReason(Enum):
    """Which limit of its :class:`StreamGroup` a stream was refused for, by the option's name."""

    MAX_STREAMS = "max_streams"
    """So many streams were open."""
    MAX_STREAMS_PER = "max_streams_per"
    """So many streams of its key were open: of one user, say, or one address."""
    ACCEPT_RATE = "accept_rate"
    """So many streams had been opened just before."""
