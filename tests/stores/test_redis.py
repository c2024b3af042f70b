from __future__ import annotations

import secrets

import pytest

from sse_trio.testing._check_store import check_event_store

RedisStore = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed").RedisStore
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


async def test_conformance(shared_redis):
    """RedisStore keeps every promise of the protocol."""
    run = secrets.token_hex(4)

    def make(place, hub, topic):
        return RedisStore(
            shared_redis.url,
            name=f"{run}-{place}",
            max_events=hub.max_events,
            max_age=hub.max_age,
            max_bytes=hub.max_bytes,
            per_topic=topic,
        )

    await check_event_store(make)
