# Who waits at a channel: sends that wait for room, and receivers that wait for an event.

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from .._loops.loop import Parked, Parking
from .buffer import Held

__all__ = ("Receiver", "WaitingReceive", "WaitingSend")


class WaitingSend:
    """A send that waits for room."""

    __slots__ = ("end", "error", "event", "key", "parking", "size")

    def __init__(self, end: object, event: Held, size: int, key: Hashable, parking: Parking) -> None:
        self.end = end
        self.event = event
        self.size = size
        self.key = key
        self.parking = parking
        self.error: Exception | None = None


class Receiver(Parked, Protocol):
    """Who waits for an event: a receive(), or the writer."""

    called: bool
    """Whether it was called to an event and has not run yet."""
    end: object
    """The receive end that it waits on; None for a writer, which is told otherwise when that is closed."""


class WaitingReceive:
    """A receive() that waits."""

    __slots__ = ("called", "end", "is_parked", "unpark")

    def __init__(self, end: object, parking: Parked) -> None:
        self.end = end
        self.called = False
        self.is_parked = parking.is_parked
        self.unpark = parking.unpark
