from __future__ import annotations

import pytest

from sse_trio.stores import MemoryStore
from sse_trio.testing._check_store import check_event_store

pytestmark = pytest.mark.anyio


async def test_conformance():
    """MemoryStore keeps every promise of the protocol."""
    await check_event_store(
        lambda place, hub, topic: MemoryStore(hub.max_events, hub.max_age, hub.max_bytes, per_topic=topic),
        durable=False,
        shared=False,
    )
