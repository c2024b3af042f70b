# Iterators that aren't async, iterated in a worker thread: the generator of a `def` path operation, rows of a database.
#
# Rule 1: one call of the iterator is under way at a time, and the stream waits for it. A thread can't be cancelled, so
#         an iterator that blocks holds up the end of its stream, and the server's shutdown, until it returns.
# Rule 2: the iterator is always closed, in a worker thread: the `finally` of a generator is the user's cleanup.
# Rule 3: threads are anyio's, 40 for all that the program does in them. A generator that sleeps holds one of them.

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from anyio import CancelScope, to_thread

if TYPE_CHECKING:
    from .._channels.send_channel import EventSendChannel

__all__ = ("close_in_thread", "iterate_in_thread")

_END: Any = object()


async def iterate_in_thread(source: Iterator[Any], send_channel: EventSendChannel) -> None:
    """Send the items, and always close the iterator."""
    try:
        while (item := await to_thread.run_sync(next, source, _END)) is not _END:
            await send_channel.send(item)
    finally:
        # Without a bound: a thread that still runs it would be the user's code after the end of its stream.
        with CancelScope(shield=True):
            await close_in_thread(source)


async def close_in_thread(source: Iterator[Any]) -> None:
    """Call the iterator's ``close()`` in a worker thread, if it has one, as generators and files have."""
    close = getattr(source, "close", None)
    if close is not None:
        await to_thread.run_sync(close)
