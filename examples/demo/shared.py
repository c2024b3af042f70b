# The numbers that the demo's clients count, so that a lost one is seen: a topic of the hub that its processes share.
#
#     __main__.py    publishes them, also while a server is down, and reads them as the clients do (crew.py)
#     app.py         serves them with sse_trio, theirs.py with sse-starlette
#
# Rule 1: both servers run the same generator for a client, with the same cleanup. Only the response differs.
# Rule 2: a producer that started and one that has cleaned up each leave a byte in a file, which outlives a server that
#         is killed.

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio

from sse_trio import Hub, ServerSentEvent, open_hub
from sse_trio.stores import SQLiteStore

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ("FILLER", "ORDERS", "REPORTS", "SEND_TIMEOUT", "TOPIC", "Tally", "follow", "open_shared_hub", "unchanged")

TOPIC, ORDERS, REPORTS = "numbers", "orders", "reports"
SEND_TIMEOUT = 2.0  # seconds; after it a client that doesn't read is dropped
FILLER = "." * 4000  # so that the buffers of a client that doesn't read are full within seconds
KEPT = 5000  # events, which is four minutes
T = TypeVar("T")


def open_shared_hub(folder: str | Path) -> AbstractAsyncContextManager[Hub]:
    """Open the hub whose events are in this folder."""
    return open_hub(SQLiteStore(Path(folder) / "events.sqlite", max_events=KEPT))


class Tally:
    """How many producers of a server have started, and how many have cleaned up."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def count(self) -> tuple[int, int]:
        """Return how many have started, and how many have cleaned up."""
        marks = os.pread(self._file, os.fstat(self._file).st_size, 0)
        return marks.count(b"s"), marks.count(b"c")

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[None]:
        """Count a producer that runs in this block. Its cleanup takes a moment, as that of a database does."""
        os.write(self._file, b"s")
        try:
            yield
        finally:
            with anyio.move_on_after(1, shield=True):
                await anyio.sleep(0.01)
                os.write(self._file, b"c")


def unchanged(event: ServerSentEvent) -> ServerSentEvent:
    """Return the event."""
    return event


async def follow(
    hub: Hub, tally: Tally, after: str | None, make: Callable[[ServerSentEvent], T]
) -> AsyncGenerator[T, None]:
    """Yield the numbers after the event with this id, each as `make` makes it of a hub's event."""
    async with tally.producer(), hub.subscribe(TOPIC, after=after) as subscription:
        async for event in subscription:
            yield make(event)  # noqa: ASYNC119 -- sse-starlette takes generators only, and closes those that it is given
