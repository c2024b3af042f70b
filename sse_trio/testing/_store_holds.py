# Checks of what a store promises about held topics: one owner, whole steps, events that stay, topics that are cleared.

from __future__ import annotations

from contextlib import suppress
from typing import cast

from anyio import create_task_group, sleep

from .._errors import HoldLostError
from ..stores import Retention
from ..stores._holds import ANYONE, Claim, HoldingStore
from ..stores._protocol import EventId, EventStore
from ..stores._topics import TopicFilter
from ._store_locations import ALL, KEEP_ALL, Locations, plain, read_all

__all__ = ("clear", "due", "held", "hold", "hold_restart", "keeps_up")

_RUN = TopicFilter("r/1")


def _holding(store: EventStore) -> HoldingStore:
    assert isinstance(store, HoldingStore), "hold: the store has no append_held, held and held_due"
    return cast("HoldingStore", store)


async def _claims(store: HoldingStore, claim: Claim, *payloads: bytes) -> bool:
    before = await store.held(claim.topic)
    try:
        await store.append_held([(claim.topic, payload) for payload in payloads], claim)
    except HoldLostError:
        after = await store.held(claim.topic)
        assert _without_time(after) == _without_time(before), f"hold: a claim was refused and changed {after}"
        return False
    return True


def _without_time(held: object) -> object:
    return None if held is None else (*cast("tuple[object, ...]", held)[:3], cast("tuple[object, ...]", held)[4])


async def hold(locations: Locations) -> None:
    """Of many claims that expect the same, one is kept; a former owner changes nothing; steps are whole."""
    won: list[str] = []

    async def claim(token: str) -> None:
        with suppress(HoldLostError):
            mine = Claim("r/1", None, token, b"v", 60.0, clear=True)
            await store.append_held([("r/1", b"by " + token.encode())], mine)
            won.append(token)

    async with locations.open() as opened:
        store = _holding(opened)
        assert await store.held("r/1") is None, "hold: a topic is held before anyone has claimed it"
        async with create_task_group() as task_group:
            for token in "abcdefgh":
                task_group.start_soon(claim, token)
        assert len(won) == 1, f"hold: claimed by {won}"
        one = won[0]
        assert not await _claims(store, Claim("r/1", "other", "other"), b"x"), "hold: a stranger appended"
        assert await _claims(store, Claim("r/1", one, one), b"1", b"2"), "hold: the owner was refused"
        page = await opened.read(_RUN, None)
        assert [event.payload for event in page.events] == [b"by " + one.encode(), b"1", b"2"], "hold: other events"
        held = await store.held("r/1")
        assert held is not None, "hold: no record of a held topic"
        assert (held.token, held.value, held.end) == (one, b"v", page.events[0].id), f"hold: another record: {held}"
        assert 0 < held.due_in <= 60.0, f"hold: due in {held.due_in} s instead of 60"
        assert await _claims(store, Claim("r/1", one, "next", b"w", 5.0), b"3"), "hold: the owner can't pass it on"
        assert not await _claims(store, Claim("r/1", one, one), b"late"), "hold: a former owner appended"
        held = await store.held("r/1")
        assert held is not None, "hold: no record of a topic that was passed on"
        assert (held.token, held.value, held.end) == ("next", b"w", (await opened.read_last(ALL, 0)).tip), (
            f"hold: {held}"
        )
        assert await _claims(store, Claim("r/1", "next", None, clear=True)), "hold: the owner can't let go"
        assert await store.held("r/1") is None, "hold: there is a record after the topic was let go"
        assert (await opened.read(_RUN, None)).events == (), "clear: there are events after the topic was let go"


async def due(locations: Locations) -> None:
    """Records are listed by the time when they are due, and only those below the prefix."""
    async with locations.open() as opened:
        store = _holding(opened)
        for topic, seconds in (("r/late", 600.0), ("q/x", 1.0), ("r/now", 0.0), ("r/soon", 60.0)):
            await store.append_held([], Claim(topic, None, "t", b"v", seconds, clear=True))
        listed = await store.held_due("r/")
        assert [one.topic for one in listed] == ["r/now", "r/soon", "r/late"], f"hold: listed as {listed}"
        assert [one.topic for one in await store.held_due("r/", limit=1)] == ["r/now"], "hold: more than the limit"
        await sleep(0.01)
        now = await store.held("r/now")
        assert now is not None, "hold: a record went when it was due"
        assert now.due_in < 0, "hold: due in 0 s, and not due later"
        await store.append_held([], Claim("r/now", "t", "t", seconds=3600.0))
        assert [one.topic for one in await store.held_due("r/")] == ["r/soon", "r/late", "r/now"], "hold: not renewed"


async def held(locations: Locations) -> None:
    """What others publish takes no event of a held topic from who names it; for a prefix it is a gap."""
    limits = Retention(max_events=6, max_bytes=200), Retention(max_events=3)
    async with locations.open("limited", *limits) as opened:
        store = _holding(opened)
        await store.append_held([], Claim("r/1", None, "t", b"v", 60.0, clear=True))
        ids: list[EventId] = []
        for n in range(10):
            ids += await store.append_held([("r/1", b"%d" % n)], Claim("r/1", "t", "t"))
            await opened.append([(f"other/{n}", b"x" * 40)])
        expected = [(id_.sequence, "r/1", b"%d" % n) for n, id_ in enumerate(ids)]
        events, _ = await read_all(opened, _RUN, None, limit=3)
        assert plain(events) == expected, f"held: events of a held topic went: {events}"
        for n, id_ in enumerate(ids):
            events, gap = await read_all(opened, _RUN, id_)
            assert (plain(events), gap) == (expected[n + 1 :], None), f"held: other events, or a gap, after {id_}"
        last = await opened.read_last(_RUN, 8)
        assert plain(last.events) == expected[-8:], "held: the last events are others"
        for topics in (TopicFilter("r/*"), ALL):
            page = await opened.read(topics, ids[0])
            assert page.gap is not None, f"gap: none for {topics}, although an event of a held topic left the log"
        assert (await opened.read(TopicFilter("other/*"), ids[-1])).gap is None, "gap: one too many beside a held topic"
        newest = (await opened.append([("other/last", b"")]))[0]
        assert plain((await opened.read(ALL, EventId(newest.epoch, newest.sequence - 1))).events) == [
            (newest.sequence, "other/last", b"")
        ], "held: the newest event went"


async def clear(locations: Locations) -> None:
    """A topic that is cleared has no events left, and only who had not seen them gets a gap; others keep theirs."""
    async with locations.open("limited", Retention(max_events=1500), KEEP_ALL) as opened:
        store = _holding(opened)
        await store.append_held([], Claim("r/1", None, "t", b"v", 60.0, clear=True))
        many = [("r/1", b"%d" % n) for n in range(2500)]
        (first, *_, last) = await store.append_held(many, Claim("r/1", "t", "t"))
        (other,) = await opened.append([("other", b"o")])
        (mark,) = await store.append_held([("r/1", b"mark")], Claim("r/1", ANYONE, ANYONE, clear=True))
        page = await opened.read(_RUN, first)
        assert page.gap is not None, "clear: no gap for who had not seen what was cleared"
        assert plain(page.events) == [(mark.sequence, "r/1", b"mark")], f"clear: {page.events} are left"
        assert (await opened.read(_RUN, last)).gap is None, "clear: a gap for who had seen everything"
        beside = await opened.read(TopicFilter("other"), first)
        assert (plain(beside.events), beside.gap) == ([(other.sequence, "other", b"o")], None), "clear: of others too"
        record = await store.held("r/1")
        assert record is not None, "clear: the record went with the events"
        assert (record.token, record.value) == ("t", b"v"), "clear: the owner lost its topic"


async def keeps_up(locations: Locations) -> None:
    """A follower gets the events of held topics, each once, as all others."""
    async with locations.open() as opened:
        store = _holding(opened)
        async with opened.follow(EventId(opened.epoch, 0)) as pages:
            await store.append_held([("r/1", b"1")], Claim("r/1", None, "t", b"v", 60.0, clear=True))
            await opened.append([("other", b"2")])
            await store.append_held([("r/1", b"3")], Claim("r/1", "t", "u", b"w", 60.0))
            payloads: list[bytes] = []
            while len(payloads) < 3:
                payloads += [event.payload for event in (await anext(pages)).events]
            assert payloads == [b"1", b"2", b"3"], f"follow: {payloads}"


async def hold_restart(locations: Locations) -> None:
    """A restart keeps records, and the events that the limits did not take."""
    limits = Retention(max_events=2)
    async with locations.open("limited", limits) as opened:
        store = _holding(opened)
        await store.append_held([], Claim("r/1", None, "t", b"v", 600.0, clear=True))
        await store.append_held([("r/1", b"%d" % n) for n in range(5)], Claim("r/1", "t", "t"))
    async with locations.open("limited", limits) as opened:
        record = await _holding(opened).held("r/1")
        assert record is not None, "hold: a restart lost a record"
        assert (record.token, record.value) == ("t", b"v"), f"hold: a restart changed a record: {record}"
        assert len((await opened.read(_RUN, None)).events) == 5, "held: a restart lost events"
