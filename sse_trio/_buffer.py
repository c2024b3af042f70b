# What a channel holds between its two ends: each event beside its wire bytes.
#
# Rule 1: the bytes are counted exactly, because they are there; `size` is always their sum.
# Rule 2: an event is kept as the str it was sent as where it was one, and made a ServerSentEvent only for a
#         receive() that wants it: on the way to a writer nothing is made that the collector has to track.
# Rule 3: no waiting, no limits and no policy here; that is the channel's state.

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol, TypeAlias

from ._event import ServerSentEvent, as_event

__all__ = ("Buffer", "ConflatingBuffer", "FifoBuffer", "Held")

Held: TypeAlias = ServerSentEvent | str


class Buffer(Protocol):
    """A queue of events and their bytes, oldest first."""

    size: int

    def __len__(self) -> int: ...
    def replace(self, event: Held, chunk: bytes, /) -> bool:
        """Put the event in the place of the one it conflates with; False when there is none."""
        ...

    def put(self, event: Held, chunk: bytes, /) -> None:
        """Add an event at the end."""

    def pop(self) -> tuple[Held, int]:
        """Remove the oldest event; return it and the size of its bytes. IndexError when there is none."""
        ...

    def drain(self) -> bytes:
        """Remove everything and return its bytes, joined."""
        ...

    def recode(self, encode: Callable[[Held], bytes]) -> None:
        """Encode everything again: the line end has changed."""


class FifoBuffer:
    """Two queues side by side: no object per event but the event and its bytes."""

    __slots__ = ("chunks", "events", "size")

    def __init__(self) -> None:
        self.events: deque[Held] = deque()
        self.chunks: deque[bytes] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self.chunks)

    def replace(self, event: Held, chunk: bytes, /) -> bool:
        """No event conflates with another here."""
        del event, chunk
        return False

    def put(self, event: Held, chunk: bytes, /) -> None:
        """Add an event at the end."""
        self.events.append(event)
        self.chunks.append(chunk)
        self.size += len(chunk)

    def pop(self) -> tuple[Held, int]:
        """Remove the oldest event."""
        event = self.events.popleft()
        size = len(self.chunks.popleft())
        self.size -= size
        return event, size

    def drain(self) -> bytes:
        """Remove everything and return its bytes."""
        chunks = self.chunks
        batch = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self.events.clear()
        self.size = 0
        return batch

    def recode(self, encode: Callable[[Held], bytes]) -> None:
        """Encode everything again."""
        chunks = list(map(encode, self.events))
        self.chunks.clear()  # the same deque: send() holds on to it
        self.chunks.extend(chunks)
        self.size = sum(map(len, chunks))


class ConflatingBuffer:
    """A queue in which a newer event takes the place of the queued one with the same key.

    A dict does just that: to assign to a key that is there keeps its place in the order.
    """

    __slots__ = ("_key_of", "_queue", "size")

    def __init__(self, key_of: Callable[[ServerSentEvent], Hashable]) -> None:
        self._key_of = key_of
        self._queue: dict[Hashable, tuple[Held, bytes]] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._queue)

    def replace(self, event: Held, chunk: bytes, /) -> bool:
        """Put the event in the place of the one with its key. The key None is nobody's."""
        key = self._key_of(as_event(event))
        replaced = self._queue.get(key) if key is not None else None
        if replaced is None:
            return False
        self._queue[key] = (event, chunk)
        self.size += len(chunk) - len(replaced[1])
        return True

    def put(self, event: Held, chunk: bytes, /) -> None:
        """Add an event at the end; replace() has said that none has its key."""
        key = self._key_of(as_event(event))
        self._queue[object() if key is None else key] = (event, chunk)
        self.size += len(chunk)

    def pop(self) -> tuple[Held, int]:
        """Remove the oldest event."""
        try:
            key = next(iter(self._queue))
        except StopIteration:
            raise IndexError from None
        event, chunk = self._queue.pop(key)
        self.size -= len(chunk)
        return event, len(chunk)

    def drain(self) -> bytes:
        """Remove everything and return its bytes."""
        batch = b"".join([chunk for _, chunk in self._queue.values()])
        self._queue.clear()
        self.size = 0
        return batch

    def recode(self, encode: Callable[[Held], bytes]) -> None:
        """Encode everything again."""
        self._queue = {key: (event, encode(event)) for key, (event, _) in self._queue.items()}
        self.size = sum(len(chunk) for _, chunk in self._queue.values())
