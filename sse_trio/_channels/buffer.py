# What a channel holds between its two ends, and the bytes that it is on the wire.
#
# Rule 1: what is in here can be encoded. It is a ServerSentEvent, which was encoded when it was made, or a plain str,
#         one line of ASCII, of which nothing has to be encoded to know that it can be, and to how many bytes.
# Rule 2: so `size` is exact, and on the way from a str to a writer nothing is made per event: a flood of plain strs
#         is joined and encoded in one go, three times as fast as one by one.
# Rule 3: no waiting, no limits and no policy here; that is the channel's state.

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Protocol, TypeAlias

from .._wire.event import ServerSentEvent, as_event
from .._wire.returned import returned_key

__all__ = ("Buffer", "ConflatingBuffer", "FifoBuffer", "Queued", "encode_queued", "size_of")

Queued: TypeAlias = ServerSentEvent | str


def size_of(queued: Queued, sep: str) -> int:
    """Return how many bytes it is on the wire."""
    return len(queued) + 6 + 2 * len(sep) if isinstance(queued, str) else len(queued.encode(sep))


def encode_queued(queued: Queued, sep: str) -> bytes:
    """Return its bytes on the wire."""
    return f"data: {queued}{sep}{sep}".encode() if isinstance(queued, str) else queued.encode(sep)


def _encode_all(events: Iterable[Queued], sep: str) -> bytes:
    try:
        texts = f"{sep}{sep}data: ".join(events)  # type: ignore[arg-type]  # the question is whether all are str
    except TypeError:
        return b"".join([encode_queued(each, sep) for each in events])
    return f"data: {texts}{sep}{sep}".encode()


class Buffer(Protocol):
    """A queue of events, oldest first, and the size of their bytes."""

    size: int

    def __len__(self) -> int: ...
    def key_of(self, event: Queued, /) -> Hashable:
        """Return what the event conflates by, ``None`` when it doesn't."""
        ...

    def size_at(self, key: Hashable, /) -> int | None:
        """Return the size of the event that has this key, ``None`` when there is none."""
        ...

    def put(self, event: Queued, size: int, key: Hashable, /) -> bool:
        """Add an event, in the place of the one that has its key or at the end; whether it was the former."""
        ...

    def pop(self, sep: str) -> Queued:
        """Remove the oldest event and return it. IndexError when there is none."""
        ...

    def drain(self, sep: str) -> bytes:
        """Remove everything, at least one event, and return its bytes, joined."""
        ...

    def measure(self, sep: str) -> None:
        """Count all the bytes again: the line end has changed."""


class FifoBuffer:
    """A plain queue.

    A writer only ever drains it, and then a list will do, at a tenth of an empty deque's memory. For whoever takes
    single events off its front it becomes a deque, at the first of them.
    """

    __slots__ = ("events", "size")

    def __init__(self) -> None:
        self.events: list[Queued] | deque[Queued] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self.events)

    def key_of(self, event: Queued, /) -> None:
        """No event conflates with another here."""

    def size_at(self, key: Hashable, /) -> None:
        """There is no event that has a key."""

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
        """Remove everything and return its bytes."""
        batch = _encode_all(self.events, sep)
        self.events.clear()
        self.size = 0
        return batch

    def measure(self, sep: str) -> None:
        """Count all the bytes again."""
        self.size = sum(size_of(event, sep) for event in self.events)


class ConflatingBuffer:
    """A queue in which a newer event takes the place of the queued one with the same key.

    A dict does just that: to assign to a key that is there keeps its place in the order.
    """

    __slots__ = ("_conflate", "_queue", "size")

    def __init__(self, conflate: Callable[[ServerSentEvent], Hashable]) -> None:
        self._conflate = conflate
        self._queue: dict[Hashable, tuple[Queued, int]] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._queue)

    def key_of(self, event: Queued, /) -> Hashable:
        """Return what the user's function says."""
        return returned_key("conflate", self._conflate(as_event(event)), "return a str, say, or None for none")

    def size_at(self, key: Hashable, /) -> int | None:
        """Return the size of the event that has this key."""
        queued = self._queue.get(key)  # None is nobody's key
        return None if queued is None else queued[1]

    def put(self, event: Queued, size: int, key: Hashable, /) -> bool:
        """Add an event, in the place of the one that has its key or at the end."""
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
        """Remove everything and return its bytes."""
        batch = _encode_all([event for event, _ in self._queue.values()], sep)
        self._queue.clear()
        self.size = 0
        return batch

    def measure(self, sep: str) -> None:
        """Count all the bytes again."""
        self._queue = {key: (event, size_of(event, sep)) for key, (event, _) in self._queue.items()}
        self.size = sum(size for _, size in self._queue.values())
