# Why a stream ends, what the stream does for each reason, and why a stream is refused.
#
# Rule 1: every ending is a CloseReason (C2), and ENDINGS says all that differs between them. Code that ends a stream
#         reads the row; it never compares reasons. The table in docs/contract.md is made from this one.

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

__all__ = ("ENDINGS", "CloseReason", "Ending", "RefusalReason")


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
    """``StreamGroup.kick()`` ended it, or its channel overflowed with ``overflow="close"``."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What a stream does when it ends for one reason."""

    grace: bool = False
    """Producers are told first, and cancelled when their ``grace`` is over."""
    client_lost: bool = False
    """Nothing more can be written: what is buffered is dropped, and ``send()`` raises."""
    farewell: bool = False
    """The ``farewell`` is the last event."""
    final_frame: bool = False
    """The last message says that the response is complete (C6). Without it, the client sees a stream that was cut."""
    bounded: bool = False
    """The last writes together get one second: a server, or a caller, is waiting."""
    shielded: bool = False
    """The last writes are shielded from the cancellation that ended the stream."""
    is_fault: bool = False
    """Somebody should look into it: traces mark it as an error."""
    log_level: int = logging.DEBUG
    """The level of the log line that says that the stream has ended."""


ENDINGS: Final[Mapping[CloseReason, Ending]] = MappingProxyType(
    {
        CloseReason.COMPLETED: Ending(final_frame=True),
        CloseReason.DISCONNECTED: Ending(grace=True, client_lost=True),
        CloseReason.SHUTDOWN: Ending(grace=True, farewell=True, final_frame=True, bounded=True),
        CloseReason.SEND_TIMEOUT: Ending(client_lost=True, is_fault=True, log_level=logging.WARNING),
        CloseReason.LIFETIME: Ending(grace=True, farewell=True, final_frame=True, bounded=True),
        CloseReason.KICKED: Ending(grace=True, farewell=True, final_frame=True, bounded=True),
        CloseReason.CANCELLED: Ending(farewell=True, final_frame=True, bounded=True, shielded=True),
        CloseReason.FAILED: Ending(is_fault=True),
    }
)
"""What each reason means for a stream. A failed stream that has not sent its head sends nothing at all (C7)."""
