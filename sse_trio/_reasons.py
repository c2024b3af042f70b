# CloseReason: why a stream ends. ENDINGS: what it does for each reason. RefusalReason: why a stream is refused.
#
# Rule 1: every ending has a CloseReason (C2), and ENDINGS has everything that differs between them. Code that ends a
#         stream reads its row and does not compare reasons. The table in docs/contract.md is made from this one.

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

__all__ = ("ENDINGS", "CloseReason", "Ending", "RefusalReason")


class CloseReason(Enum):
    """Why a stream ended. The first reason counts: events while it is ending do not change it."""

    COMPLETED = "completed"
    """Every send channel was closed, and every event and the final frame were written."""
    DISCONNECTED = "disconnected"
    """The client disconnected."""
    SHUTDOWN = "shutdown"
    """The server or the :class:`StreamGroup` is shutting down."""
    SEND_TIMEOUT = "send_timeout"
    """A write to the client took longer than ``send_timeout`` seconds."""
    LIFETIME = "lifetime"
    """The stream reached its ``max_lifetime`` or its ``expires_at``."""
    KICKED = "kicked"
    """``StreamGroup.kick()`` ended it, or its channel overflowed with ``overflow="close"``."""
    CANCELLED = "cancelled"
    """The task that served it was cancelled from outside."""
    FAILED = "failed"
    """A producer, the source or the server's ``send`` raised."""

    if not TYPE_CHECKING:  # for which an assignment is a base class's method, and of unknown type
        __hash__ = object.__hash__  # Enum's own is Python code, and each stream looks its reason up three times


class RefusalReason(Enum):
    """Which limit of its :class:`StreamGroup` a stream exceeded, by the name of the option."""

    MAX_STREAMS = "max_streams"
    """The maximum number of streams was open."""
    MAX_STREAMS_PER = "max_streams_per"
    """The maximum number of streams with its key was open, for example of one user or one address."""
    ACCEPT_RATE = "accept_rate"
    """Streams were opened faster than the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What a stream does when it ends for a reason."""

    grace: bool = False
    """Producers have their ``grace`` to finish, and are cancelled after it."""
    client_lost: bool = False
    """Nothing more can be written: buffered events are dropped, and ``send()`` raises."""
    farewell: bool = False
    """The ``farewell`` is the last event."""
    final_frame: bool = False
    """The last message completes the response (C6). Without it, the client sees that the stream was cut off."""
    bounded: bool = False
    """The last writes have one second in all, because a server or a caller is waiting."""
    shielded: bool = False
    """The last writes are shielded from the cancellation that ended the stream."""
    is_fault: bool = False
    """An operator should investigate: traces mark it as an error."""
    log_level: int = logging.DEBUG
    """The level of the log message about the end of the stream."""


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
"""What a stream does for each reason. A failed stream that has not sent its head sends nothing (C7)."""
