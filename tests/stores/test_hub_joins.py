# The join race: subscribers who come while a topic is written at full speed, on each store.

from __future__ import annotations

import secrets

import anyio
import pytest
from anyio.lowlevel import checkpoint

from sse_trio import open_hub
from sse_trio.stores import EventId, MemoryStore, SQLiteStore

from .._volume import volume

pytestmark = [pytest.mark.anyio, pytest.mark.untraced]

SUBSCRIBERS = volume(200)
SEEN = 100  # events that a subscriber stays for; a slow machine publishes more of them until the last one has joined
PATIENCE = 50  # seconds


class Race:
    """Publishers that don't pause, and subscribers that come from wherever the topic was a while ago."""

    def __init__(self, hub):
        self.hub = hub
        self.ids = []
        self.joined = 0

    async def run(self):
        """Let everybody run, until the last ones who joined have seen the last event that was published."""
        self.ids.append(await self.hub.publish("t", "0"))
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as nursery:
                for number in range(3):
                    nursery.start_soon(self.publish, number)
                for number in range(SUBSCRIBERS):
                    nursery.start_soon(self.subscribe, number)
                    await checkpoint()
        assert self.hub.statistics().gaps == self.hub.statistics().subscribers == 0

    async def publish(self, number):
        while self.joined < SUBSCRIBERS:
            self.ids += await self.hub.publish_many([("t", "x"), ("other", "x")] if number else [("t", "x")])
            await checkpoint()
        if number == 0:
            await anyio.sleep(0.1)
            self.ids.append(await self.hub.publish("t", "end"))

    async def subscribe(self, number):
        """See each event from one on, in order, and once, and leave while others come."""
        after = self.ids[-1 - number % min(len(self.ids), 40)]
        seen = []
        topics = ("*",) if number % 2 else ("t", "other")
        async with self.hub.subscribe(*topics, after=str(after)) as subscription:
            self.joined += 1
            async for event in subscription:
                seen.append(EventId.parse(event.id).sequence)
                if event.data == "end" or len(seen) == SEEN:
                    break
                if number % 3 == 0:
                    await checkpoint()
        assert seen == [*range(after.sequence + 1, seen[-1] + 1)]


@pytest.mark.parametrize("ring", [8, 1024])
async def test_memory_store(ring):
    """MemoryStore: every subscriber gets what was published after its id, in order and once."""
    async with open_hub(MemoryStore(None), max_ring_events=ring) as hub:
        await Race(hub).run()


@pytest.mark.usefixtures("real_clock")
@pytest.mark.parametrize("ring", [8, 1024])
async def test_sqlite_store(tmp_path, ring):
    """SQLiteStore: the same, when the hub learns of events after they can be read."""
    async with open_hub(SQLiteStore(tmp_path / "hub"), max_ring_events=ring) as hub:
        await Race(hub).run()


@pytest.mark.usefixtures("real_clock", "forgive_coredis")
@pytest.mark.parametrize("ring", [8, 1024])
async def test_redis_store(shared_redis, ring):
    """RedisStore: the same, over a network."""
    redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
    async with open_hub(redis.RedisStore(shared_redis.url, name=secrets.token_hex(8)), max_ring_events=ring) as hub:
        await Race(hub).run()
