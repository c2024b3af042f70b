# The waiters of a channel: sends that wait for room, and receivers that wait for an event.
#
# Rule 1: once a waiter is woken, its outcome is decided (_loops/loop.py, rule 2). A wait that raises had no outcome yet
#         and only leaves the queue. From the moment of its cancellation a waiter is skipped, also before its task runs.
# Rule 2: each event wakes one receiver, which takes the event itself when it runs. Until then the event stays in the
#         buffer, so a cancelled receiver loses nothing. A writer that runs soon, for whatever it was woken, takes an
#         event like one that waits: which of two tasks runs first is the loop's choice, and trio's is random.
# Rule 3: the task that makes room moves the event of a waiting send into the buffer. The send doesn't do it itself, so
#         that no other send overtakes it.
# Rule 4: a channel has NO_SENDS and NO_RECEIVERS until a task first waits. Most channels never have a send that waits,
#         and a short stream ends before its writer would.

from __future__ import annotations

from collections.abc import Callable, Hashable, Sized
from typing import Literal, Protocol, TypeAlias, cast, final

from anyio import ClosedResourceError

from .._loops.loop import Parked, Parking
from .buffer import Queued

__all__ = (
    "NO_RECEIVERS",
    "NO_SENDS",
    "Answer",
    "IdleWriter",
    "Receiver",
    "WaitingReceive",
    "WaitingReceivers",
    "WaitingSend",
    "WaitingSends",
)


class WaitingSend:
    """A send that waits for room."""

    __slots__ = ("end", "error", "event", "key", "parking", "size")
    end: object
    event: Queued
    key: Hashable
    parking: Parking
    size: int

    def __init__(self, end: object, event: Queued, size: int, key: Hashable, parking: Parking) -> None:
        self.end = end
        self.event = event
        self.size = size
        self.key = key
        self.parking = parking
        self.error: Exception | None = None

    def refuse(self, error: Exception) -> None:
        """Make the send raise this error."""
        self.error = error
        self.parking.unpark()


class WaitingSends:
    """The sends that wait, in order."""

    __slots__ = ("queue", "resuming")
    resuming: int

    def __init__(self) -> None:
        self.queue: list[WaitingSend] = []
        """Don't change it from outside. It is public because every path checks whether it is empty, without a call."""
        self.resuming = 0
        """How many sends had their event moved into the buffer and have not run yet."""

    def add(self, waiting: WaitingSend) -> None:
        """Queue a send."""
        self.queue.append(waiting)

    def discard(self, waiting: WaitingSend) -> None:
        """Remove a send that was cancelled."""
        if waiting in self.queue:
            self.queue.remove(waiting)

    def first(self) -> WaitingSend | None:
        """Return the first send that still waits."""
        queue = self.queue
        while queue and not queue[0].parking.is_parked():
            queue.pop(0)
        return queue[0] if queue else None

    def has_key(self, key: Hashable) -> bool:
        """Return whether a waiting send has an event with this key."""
        return any(waiting.key == key for waiting in self.queue)

    def admit_first(self) -> Queued:
        """Let the first send return, and return its event. The caller must keep the event."""
        waiting = self.queue.pop(0)
        self.resuming += 1
        waiting.parking.unpark()
        return waiting.event

    def refuse_all(self, make_error: Callable[[], Exception]) -> None:
        """Make all waiting sends raise."""
        while self.queue:
            self.queue.pop(0).refuse(make_error())

    def refuse_of(self, end: object) -> None:
        """Make the sends that wait on a closed end raise."""
        for waiting in [waiting for waiting in self.queue if waiting.end is end]:
            self.queue.remove(waiting)
            waiting.refuse(ClosedResourceError("this send channel was closed while it was sending"))

    def measure(self, size_of: Callable[[Queued], int]) -> None:
        """Measure the waiting events again, because the line end has changed."""
        for waiting in self.queue:
            waiting.size = size_of(waiting.event)


@final
class _NoSends(WaitingSends):
    # No sends. It has no attributes of its own, so nothing can be set or added: channels of every loop share it.

    __slots__ = ()
    queue = cast("list[WaitingSend]", ())
    resuming = 0

    def __init__(self) -> None: ...


NO_SENDS = _NoSends()


class Receiver(Parked, Protocol):
    """A waiter for events: a receive(), or a stream's writer."""

    def is_able(self) -> bool:
        """Whether it takes an event that is sent now: it is parked, or it runs soon, and looks for events then."""
        ...

    woken: bool
    """Whether the receiver was woken for an event and has not run yet."""

    @property
    def end(self) -> object:
        """The receive end that it waits on; None for a writer, which is woken when the last receive end is closed."""


Answer: TypeAlias = Literal["written", "queue", "yield"]
"""What became of an event that was offered to a writer: it was written; or it wasn't, and goes into the queue; or it
wasn't, and its task has to yield first, because it has been writing for too long."""


class IdleWriter(Protocol):
    """A writer that waits for events and can write one inside the send() that brings it."""

    def write_event(self, event: Queued, sep: str, /) -> Answer:
        """Write the event, if that needs no waiting. Call it only from a producer's own send(). Never raises."""
        ...


class WaitingReceive:
    """A receive() that waits."""

    __slots__ = ("end", "is_able", "is_parked", "unpark", "woken")

    def __init__(self, end: object, parking: Parked) -> None:
        self.end = end
        self.woken = False
        self.is_able = self.is_parked = parking.is_parked
        self.unpark = parking.unpark


class WaitingReceivers:
    """The receivers that wait, in order."""

    __slots__ = ("queue", "woken")
    woken: int

    def __init__(self) -> None:
        self.queue: list[Receiver] = []  # an empty deque is ten times as large
        """As in WaitingSends."""
        self.woken = 0
        """How many receivers were woken for an event and have not run yet."""

    def able(self) -> int:
        """Return how many events can be received: by receivers that were woken and receivers that still wait."""
        return self.woken + sum(waiting.is_able() for waiting in self.queue)

    def add(self, waiting: Receiver) -> None:
        """Queue a receiver, unless it is queued."""
        if waiting not in self.queue:
            self.queue.append(waiting)

    def discard(self, waiting: Receiver) -> None:
        """Remove a receiver that was woken or that stopped waiting."""
        if waiting.woken:
            waiting.woken = False
            self.woken -= 1
        elif waiting in self.queue:
            self.queue.remove(waiting)

    def wake(self, buffer: Sized) -> None:
        """Wake one receiver for each event that has none yet."""
        while self.queue and len(buffer) > self.woken:  # measured each time: a receiver may take events inside _wake()
            self._wake(self.queue.pop(0))

    def wake_parked(self) -> None:
        """Wake every receiver that waits. One that runs soon anyway stays, and can still take an event."""
        parked = [waiting for waiting in self.queue if waiting.is_parked()]
        for waiting in parked:
            self.queue.remove(waiting)
        for waiting in parked:
            self._wake(waiting)

    def wake_all(self) -> None:
        """Wake every receiver; each checks what has changed."""
        while self.queue:
            self._wake(self.queue.pop(0))

    def wake_of(self, end: object) -> None:
        """Wake the receivers that wait on a closed end."""
        for waiting in [waiting for waiting in self.queue if waiting.end is end]:
            self.queue.remove(waiting)
            waiting.unpark()

    def _wake(self, waiting: Receiver) -> None:
        if waiting.is_parked():
            waiting.woken = True
            self.woken += 1
            waiting.unpark()


@final
class _NoReceivers(WaitingReceivers):
    # As _NoSends.

    __slots__ = ()
    queue = cast("list[Receiver]", ())
    woken = 0

    def __init__(self) -> None: ...


NO_RECEIVERS = _NoReceivers()
