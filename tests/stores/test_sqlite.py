from __future__ import annotations

import pytest

from sse_trio.stores.sqlite import SQLiteStore
from sse_trio.testing._check_store import check_event_store

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


async def test_conformance(tmp_path):
    """SQLiteStore keeps every promise of the protocol."""

    def make(place, hub, topic):
        return SQLiteStore(
            tmp_path / f"{place}.db",
            max_events=hub.max_events,
            max_age=hub.max_age,
            max_bytes=hub.max_bytes,
            per_topic=topic,
        )

    await check_event_store(make)
