# The check of events that expire. Nothing sleeps: an event may be appended whose moment was before.

from __future__ import annotations

from typing import cast

from ..stores import Retention
from ..stores._expiry import ExpiringStore, expiring
from ..stores._protocol import EventId
from ._store_locations import ALL, Locations, read_all

__all__ = ("expiry",)

_LATER = 3600.0  # seconds


async def expiry(locations: Locations) -> None:
    """An event is read until its moment and not after it, which is no gap; then it counts against no limit."""
    async with locations.open("limited", Retention(max_events=4)) as store:
        now = cast("ExpiringStore", store).expiry_clock()
        assert cast("ExpiringStore", store).expiry_clock() >= now, "expiry: its clock goes back"
        start = (await store.append([("a", b"0")]))[0]
        late, later = expiring([("a", b"late")], now - 1), expiring([("b", b"later")], now + _LATER)
        ids = await store.append([*later, *late, ("a", b"last")])
        wanted = [later[0][1], b"last"]
        for after in (start, EventId(store.epoch, 0)):
            events, gap = await read_all(store, ALL, after)
            assert gap is None, f"expiry: a gap after {after}, where an event has expired"
            assert [event.payload for event in events][-2:] == wanted, "expiry: not what has not expired"
        newest = (await store.read_last(ALL, 2)).events
        assert [event.payload for event in newest] == wanted, "expiry: not the last two that have not expired"
        assert ids[1] not in [event.id for event in (await store.read_last(ALL, 9)).events], "expiry: it is still read"
