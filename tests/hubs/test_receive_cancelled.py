# Subscription.receive() is cancelled at each place where it can be, and has taken no event then.

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from sse_trio import open_hub
from sse_trio.stores import MemoryStore

pytestmark = pytest.mark.anyio

EVENTS = 40
STEPS = range(12)  # more passes of the loop than one receive() takes here


class SteppingStore(MemoryStore):
    """A store whose reads take a few passes of the loop, before and after the page is made."""

    async def read(self, topics, after, *, limit=256):
        await anyio.lowlevel.checkpoint()
        page = await super().read(topics, after, limit=min(limit, 3))
        await anyio.lowlevel.checkpoint()
        return page


async def receive_and_cancel(subscription, steps, got):
    """Begin a receive(), cancel it after this many passes of the loop, and note what it returned if it was earlier."""

    async def receive():
        got.append((await subscription.receive()).data)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def publish_numbers(hub, first, last):
    for number in range(first, last):
        await hub.publish("ab"[number % 2], number)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("topics", [("a", "b"), ("*",)])
async def test_no_place_to_cancel_it_takes_an_event(steps, topics):
    """In history, behind the ring, and live, a receive() that is cancelled after any number of passes loses nothing."""
    got = []
    async with open_hub(SteppingStore(), max_ring_events=4) as hub:
        await publish_numbers(hub, 0, 10)
        async with hub.subscribe(*topics, replay=10) as subscription:
            for live in range(10, EVENTS):
                # Ten at a time, so that it falls behind its ring of four and has to read the store again.
                if live % 10 == 0:
                    await publish_numbers(hub, live, live + 10)
                await receive_and_cancel(subscription, steps, got)
            with anyio.fail_after(60):
                while len(got) < EVENTS:
                    got.append((await subscription.receive()).data)
    assert got == [str(number) for number in range(EVENTS)]
