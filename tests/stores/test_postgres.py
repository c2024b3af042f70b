# PostgresStore: the conformance kit, and what is its own: the schema, roles, locks, pollers.

from __future__ import annotations

import secrets

import anyio
import pytest

from sse_trio._errors import StoreUnavailableError
from sse_trio.stores import EventId, Retention, TopicFilter
from sse_trio.testing._check_store import check_event_store
from sse_trio.testing._store_locations import ALL, plain, read_all

postgres = pytest.importorskip("sse_trio.stores.postgres", reason="psycopg is not installed")
PostgresStore = postgres.PostgresStore

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


@pytest.fixture
def name():
    """The name of a hub that no other test uses."""
    return secrets.token_hex(4)


@pytest.mark.untraced
async def test_conformance(shared_postgres, name):
    """PostgresStore keeps every promise of the protocol."""

    def make(place, hub, topic):
        limits = {"max_events": hub.max_events, "max_age": hub.max_age, "max_bytes": hub.max_bytes}
        return PostgresStore(shared_postgres.url, name=f"{name}-{place}", **limits, per_topic=topic)

    await check_event_store(make)
