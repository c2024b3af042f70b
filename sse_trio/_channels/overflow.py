# Overflow policies of a channel: what happens to an event for which a full buffer has no room.
#
#   wait           send() waits for room (waiters.py), and send_nowait() raises WouldBlock; the default
#   drop_oldest    the oldest buffered events go, until this one has room
#   drop_newest    this event goes
#   close          the channel breaks, and the stream ends
#
# Rule 1: what is dropped is counted. An event that a policy refuses with an error is neither accepted nor counted.
# Rule 2: when a buffer is full, state.py says (has_room). A hub's subscribers read from rings instead of buffers, and
#         have policies of their own: _hubs/reading.py.

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

if TYPE_CHECKING:
    from .buffer import Queued

__all__ = ("OVERFLOWS", "Full", "Overflow", "accept_or_drop")

Overflow: TypeAlias = Literal["wait", "drop_oldest", "drop_newest", "close"]
OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)


class Full(Protocol):
    """A channel whose buffer is full."""

    overflow: Overflow
    max_buffer_size: float
    dropped: int

    def has_room(self, size: int, key: Hashable) -> bool:
        """Return whether the buffer has room for an event of this size under this key."""
        ...

    def put(self, event: Queued, size: int, key: Hashable) -> None:
        """Append an event to the buffer, or replace the one with its key."""

    def drop_first(self) -> None:
        """Drop the oldest buffered event, and count it."""

    def break_full(self) -> BaseException:
        """Accept no more events, end the stream, and return the error of this send."""
        ...


def accept_or_drop(channel: Full, event: Queued, size: int, key: Hashable) -> None:
    """Drop another event for this one, drop this one, or break the channel, as its `overflow` says."""
    if channel.overflow == "close":
        raise channel.break_full()
    if channel.overflow == "drop_newest" or channel.max_buffer_size == 0:  # without a buffer nothing else can go
        channel.dropped += 1
        return
    while not channel.has_room(size, key):
        channel.drop_first()
    channel.put(event, size, key)
