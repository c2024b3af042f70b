# The queue of events between the two ends of a channel, with their size in bytes on the wire.
#
# Rule 1: everything queued can be encoded. It is a ServerSentEvent, which was encoded when it was made, or a plain str:
#         one line of ASCII, which can always be encoded and has a known size.
# Rule 2: so `size` is exact, and a plain str needs no object of its own. Many strs are joined and encoded in one go,
#         three times as fast as one by one.
# Rule 3: no waiting, no limits and no policies here: those are in state.py and overflow.py.

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Protocol, TypeAlias

from .._wire.event import ServerSentEvent, as_event
from .._wire.returned import returned_key

__all__ = ("Buffer", "ConflatingBuffer", "FifoBuffer", "Queued", "encode_queued", "size_of")

Queued: TypeAlias = ServerSentEvent | str


def size_of(queued: Queued, sep: str) -> int:
    """Return the size of the event on the wire, in bytes."""
    return len(queued) + 6 + 2 * len(sep) if isinstance(queued, str) else len(queued.encode(sep))


def encode_queued(queued: Queued, sep: str) -> bytes:
    """Return the event's bytes on the wire."""
    return f"data: {queued}{sep}{sep}".encode() if isinstance(queued, str) else queued.encode(sep)


def _encode_all(events: Iterable[Queued], sep: str) -> bytes:
    try:
        texts = f"{sep}{sep}data: ".join(events)  # type: ignore[arg-type]  # raises unless all are str
    except TypeError:
        return b"".join([encode_queued(each, sep) for each in events])
    return f"data: {texts}{sep}{sep}".encode()


class Buffer(Protocol):
    """A queue of events, oldest first, and their size in bytes."""

    size: int

    def __len__(self) -> int: ...
    def key_of(self, event: Queued, /) -> Hashable:
        """Return the key by which the event conflates, or ``None`` if it doesn't."""
        ...

    def size_at(self, key: Hashable, /) -> int | None:
        """Return the size of the queued event with this key, or ``None``."""
        ...

    def put(self, event: Queued, size: int, key: Hashable, /) -> bool:
        """Replace the queued event with the same key and return True, or add the event at the end and return False."""
        ...

    def pop(self, sep: str) -> Queued:
        """Remove the oldest event and return it. IndexError if there is none."""
        ...

    def drain(self, sep: str) -> bytes:
        """Remove all events, of which there is at least one, and return their bytes, joined."""
        ...

    def measure(self, sep: str) -> None:
        """Measure all events again, because the line end has changed."""


class FifoBuffer:
    """A plain queue.

    It begins as a list, which is all that a writer needs, because it only drains the queue. An empty deque takes some
    570 bytes more, 3 % of an idle stream. When receive() first takes a single event, the list becomes a deque.
    """

    __slots__ = ("events", "size")
    size: int

    def __init__(self) -> None:
        self.events: list[Queued] | deque[Queued] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self.events)

    def key_of(self, event: Queued, /) -> None:
        """No event conflates with another here."""

    def size_at(self, key: Hashable, /) -> None:
        """No event has a key here."""

    def put(self, event: Queued, size: int, key: Hashable, /) -> bool:
        """Add an event at the end."""
        del key
        self.events.append(event)
        self.size += size
        return False

    def pop(self, sep: str) -> Queued:
        """Remove the oldest event."""
        if isinstance(self.events, list):
            self.events = deque(self.events)
        event = self.events.popleft()
        self.size -= size_of(event, sep)
        return event

    def drain(self, sep: str) -> bytes:
        """Remove all events and return their bytes."""
        batch = _encode_all(self.events, sep)
        self.events.clear()
        self.size = 0
        return batch

    def measure(self, sep: str) -> None:
        """Measure all events again."""
        self.size = sum(size_of(event, sep) for event in self.events)


class ConflatingBuffer:
    """A queue in which a newer event replaces the queued event with the same key.

    It is a dict: assigning to an existing key keeps the key's position.
    """

    __slots__ = ("_conflate", "_queue", "size")

    def __init__(self, conflate: Callable[[ServerSentEvent], Hashable]) -> None:
        self._conflate = conflate
        self._queue: dict[Hashable, tuple[Queued, int]] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._queue)

    def key_of(self, event: Queued, /) -> Hashable:
        """Return the key from the user's function."""
        key = self._conflate(as_event(event))
        return returned_key("conflate", key, "return a str, for example, or None not to conflate")

    def size_at(self, key: Hashable, /) -> int | None:
        """Return the size of the queued event with this key."""
        queued = self._queue.get(key)  # no event is queued under None
        return None if queued is None else queued[1]

    def put(self, event: Queued, size: int, key: Hashable, /) -> bool:
        """Replace the queued event with the same key, or add the event at the end."""
        replaced = self.size_at(key)
        self._queue[object() if key is None else key] = (event, size)
        self.size += size - (replaced or 0)
        return replaced is not None

    def pop(self, sep: str) -> Queued:
        """Remove the oldest event."""
        del sep
        key = next(iter(self._queue), None)
        if key is None:
            raise IndexError
        event, size = self._queue.pop(key)
        self.size -= size
        return event

    def drain(self, sep: str) -> bytes:
        """Remove all events and return their bytes."""
        batch = _encode_all([event for event, _ in self._queue.values()], sep)
        self._queue.clear()
        self.size = 0
        return batch

    def measure(self, sep: str) -> None:
        """Measure all events again."""
        self._queue = {key: (event, size_of(event, sep)) for key, (event, _) in self._queue.items()}
        self.size = sum(size for _, size in self._queue.values())
