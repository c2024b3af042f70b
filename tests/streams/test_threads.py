"""Sources that aren't async: they run in a worker thread, and their cleanup has run when the response is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sse_trio import CloseReason, EventSourceResponse
from sse_trio.testing import open_test_stream

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


class Rows:
    """A generator that notes the threads that it ran in, and its end."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.is_closed = False

    def generate(self, count: int, pause: float = 0) -> Iterator[str]:
        """Yield rows."""
        try:
            for n in range(count):
                self.threads.add(threading.get_ident())
                yield f"row {n}"
                time.sleep(pause)
        finally:
            self.is_closed = True


async def test_items_come_from_a_worker_thread() -> None:
    """A generator that blocks doesn't block the event loop: none of it runs in the loop's thread."""
    rows = Rows()
    async with open_test_stream(EventSourceResponse(rows.generate(3))) as stream:
        assert [event.data async for event in stream] == ["row 0", "row 1", "row 2"]
        await stream.wait_closed()
    assert rows.is_closed
    assert threading.get_ident() not in rows.threads


async def test_closed_when_the_client_leaves() -> None:
    """When the client disconnects, the generator's ``finally`` has run before the response is done."""
    rows = Rows()
    async with open_test_stream(EventSourceResponse(rows.generate(10**6, pause=0.01))) as stream:
        await stream.receive()
        stream.disconnect()
        await stream.wait_closed()
        assert rows.is_closed
    assert stream.close_reason is CloseReason.DISCONNECTED


async def test_an_iterator_without_close() -> None:
    """Any iterator will do, also one that can't be closed."""
    async with open_test_stream(EventSourceResponse(iter(["one", "two"]))) as stream:
        assert [event.data async for event in stream] == ["one", "two"]


async def test_an_exception_of_a_generator() -> None:
    """A generator that raises first decides the status, as any producer."""

    def fail() -> Iterator[str]:
        raise LookupError("no rows")
        yield ""

    with pytest.raises(LookupError, match="no rows"):
        async with open_test_stream(EventSourceResponse(fail())):
            pass


@pytest.mark.parametrize("begun", [False, True])
async def test_closed_without_being_served(begun: bool) -> None:
    """A HEAD request iterates nothing, and closes the generator."""
    rows = Rows()
    source: Any = rows.generate(3)
    if begun:
        next(source)
    async with open_test_stream(EventSourceResponse(source), method="HEAD") as stream:
        assert stream.status_code == 200
        await stream.wait_closed()
    assert rows.is_closed is begun
    assert list(source) == []
