# Who waits at a channel: sends that wait for room, and receivers that wait for an event.
#
# Rule 1: woken means decided (_loops/loop.py, rule 2). A wait that raises was not decided yet, and only has to leave.
#         It is passed over from the moment of its cancellation, not only once its task has run.
# Rule 2: a receiver is woken for each event, and takes it itself when it runs. Until then the event is in the buffer,
#         so a receiver that is cancelled loses nothing.
# Rule 3: an event of a waiting send is moved into the buffer by whoever makes room, never by the send itself, so that
#         no other send overtakes it.

from __future__ import annotations

from collections.abc import Callable, Hashable, Sized
from typing import Protocol

from anyio import ClosedResourceError

from .._loops.loop import Parked, Parking
from .buffer import Queued

__all__ = ("Receiver", "WaitingReceive", "WaitingReceivers", "WaitingSend", "WaitingSends")


class WaitingSend:
    """A send that waits for room."""

    __slots__ = ("end", "error", "event", "key", "parking", "size")

    def __init__(self, end: object, event: Queued, size: int, key: Hashable, parking: Parking) -> None:
        self.end = end
        self.event = event
        self.size = size
        self.key = key
        self.parking = parking
        self.error: Exception | None = None

    def refuse(self, error: Exception) -> None:
        """Have it raise this error."""
        self.error = error
        self.parking.unpark()


class WaitingSends:
    """The sends that wait, in their order."""

    __slots__ = ("queue", "resuming")

    def __init__(self) -> None:
        self.queue: list[WaitingSend] = []
        """Not to be changed from outside; asked whether it is empty on every path, so without a call."""
        self.resuming = 0
        """How many have been moved into the buffer and have not run yet."""

    def add(self, waiting: WaitingSend) -> None:
        """Queue a send."""
        self.queue.append(waiting)

    def discard(self, waiting: WaitingSend) -> None:
        """Take out a send that was cancelled."""
        if waiting in self.queue:
            self.queue.remove(waiting)

    def first(self) -> WaitingSend | None:
        """Return the first send that still waits."""
        queue = self.queue
        while queue and not queue[0].parking.is_parked():
            queue.pop(0)
        return queue[0] if queue else None

    def has_key(self, key: Hashable) -> bool:
        """Return whether any of them sends an event with this key."""
        return any(waiting.key == key for waiting in self.queue)

    def admit_first(self) -> Queued:
        """Let the first send return, and return its event, which is the caller's to keep."""
        waiting = self.queue.pop(0)
        self.resuming += 1
        waiting.parking.unpark()
        return waiting.event

    def refuse_all(self, make_error: Callable[[], Exception]) -> None:
        """Have all of them raise."""
        while self.queue:
            self.queue.pop(0).refuse(make_error())

    def refuse_of(self, end: object) -> None:
        """Have those raise that wait on an end that is closed."""
        for waiting in [waiting for waiting in self.queue if waiting.end is end]:
            self.queue.remove(waiting)
            waiting.refuse(ClosedResourceError("this send channel was closed while it was sending"))

    def measure(self, size_of: Callable[[Queued], int]) -> None:
        """Count the bytes of their events again: the line end has changed."""
        for waiting in self.queue:
            waiting.size = size_of(waiting.event)


class Receiver(Parked, Protocol):
    """Who waits for an event: a receive(), or the writer."""

    woken: bool
    """Whether it was woken for an event and has not run yet."""
    end: object
    """The receive end that it waits on; None for a writer, which learns otherwise when that is closed."""


class WaitingReceive:
    """A receive() that waits."""

    __slots__ = ("end", "is_parked", "unpark", "woken")

    def __init__(self, end: object, parking: Parked) -> None:
        self.end = end
        self.woken = False
        self.is_parked = parking.is_parked
        self.unpark = parking.unpark


class WaitingReceivers:
    """The receivers that wait, in their order."""

    __slots__ = ("queue", "woken")

    def __init__(self) -> None:
        self.queue: list[Receiver] = []  # an empty deque is ten times as large
        """As in WaitingSends."""
        self.woken = 0
        """How many were woken for an event and have not run yet."""

    def able(self) -> int:
        """Return how many events have a receiver: one that was woken, or that still waits."""
        return self.woken + sum(waiting.is_parked() for waiting in self.queue)

    def add(self, waiting: Receiver) -> None:
        """Queue a receiver, unless it is there."""
        if waiting not in self.queue:
            self.queue.append(waiting)

    def discard(self, waiting: Receiver) -> None:
        """Take out a receiver, which was woken or left on its own."""
        if waiting.woken:
            waiting.woken = False
            self.woken -= 1
        elif waiting in self.queue:
            self.queue.remove(waiting)

    def wake(self, buffer: Sized) -> None:
        """Wake a receiver for each event that none was woken for yet."""
        while self.queue and len(buffer) > self.woken:  # asked anew: one may take its events inside of _wake()
            self._wake(self.queue.pop(0))

    def wake_all(self) -> None:
        """Wake every receiver, to find out for itself what has changed."""
        while self.queue:
            self._wake(self.queue.pop(0))

    def wake_of(self, end: object) -> None:
        """Wake those that wait on an end that is closed."""
        for waiting in [waiting for waiting in self.queue if waiting.end is end]:
            self.queue.remove(waiting)
            waiting.unpark()

    def _wake(self, waiting: Receiver) -> None:
        if waiting.is_parked():
            waiting.woken = True
            self.woken += 1
            waiting.unpark()
