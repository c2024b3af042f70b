# How a run's events get into a store that calls back: no task waits for an event that finds nothing under way.

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest
from anyio import to_thread

from sse_trio import HoldLostError, ServerSentEvent, StoreUnavailableError
from sse_trio.stores._append import LOST
from sse_trio.stores._group_commit import GroupCommit
from sse_trio.stores._holds import Claim
from sse_trio.testing import open_test_stream

from .conftest import open_process
from .test_runs import count, make_holding, plain, watch

pytestmark = pytest.mark.anyio

COMMIT = 1.0


class Calling:
    """Has a store call back, a second after each append; notes the payloads of each."""

    def __init__(self, store):
        self.store = make_holding(store)
        self.commits = GroupCommit()
        self.store.append_held_soon = self.begin
        self.begun = []
        self.loses_answers = False

    def begin(self, items, claim, on_done):
        self.begun.append([payload.decode() for _, payload in items])
        self.commits.claim_soon(items, claim, on_done)

    def count_waits(self, task):
        wait, self.waits = task._recorder._wait, 0

        async def counted():
            self.waits += 1
            await wait()

        task._recorder._wait = counted

    async def commit(self, group):
        await anyio.sleep(COMMIT)
        return [await self.append(append) for append in group]

    async def append(self, append):
        try:
            ids = await self.store.append_held(append.items, append.claim)
        except HoldLostError:
            return LOST
        if self.loses_answers:
            self.loses_answers = False
            raise StoreUnavailableError("the store", "its answer was lost")
        return ids


@asynccontextmanager
async def open_calling(store, **options):
    """Open runs in a store that calls back."""
    calling = Calling(store)
    async with anyio.create_task_group() as nursery:
        nursery.start_soon(calling.commits.run, calling.commit)
        async with open_process(calling.store, lease=1000, **options) as runs:
            yield runs, calling
        nursery.cancel_scope.cancel()


async def test_an_event_is_given_to_the_store_in_its_send(make_remote_store):
    """The store has an event when send() returns, no task has run for it, and nobody sees it before it is kept."""
    given, waits = [], []

    async def produce(send_channel):
        await anyio.sleep(1)
        calling.waits = 0
        for text in ("a", ServerSentEvent("b\nc", event="d"), "\xe9"):
            await send_channel.send(text)
            given.append(len(calling.begun))
            await anyio.sleep(2)
        waits.append(calling.waits)

    async with open_calling(make_remote_store()) as (runs, calling):
        await runs.start("a", produce)
        calling.count_waits(*runs._tasks.values())
        async with runs.watch("a") as subscription:
            began = anyio.current_time()
            await subscription.receive()
            assert anyio.current_time() - began >= 1 + COMMIT
        events = await watch(runs, "a")
        published = runs._hub.statistics().published
    assert given == [1, 2, 3]
    assert waits == [0], "the run's task was not woken"
    assert calling.begun == [["data: a\n\n"], ["event: d\ndata: b\ndata: c\n\n"], ["data: \xe9\n\n"]]
    assert [event.data for event in events[:3]] == ["a", "b\nc", "\xe9"]
    assert published == 4


async def test_what_comes_meanwhile_is_appended_together(make_remote_store):
    """While an event is under way, no other is given to the store: what comes waits, and is one append."""
    sizes = []

    async def append_held(items, claim):
        sizes.append(len(items))
        return await kept(items, claim)

    async with open_calling(make_remote_store()) as (runs, calling):
        kept, calling.store.append_held = calling.store.append_held, append_held
        await runs.start("a", count, 40, 0.1)
        assert plain(await watch(runs, "a")) == [*map(str, range(40)), "completed"]
    # The claim; the first event, which came before the task waited; the one that was under way for a second.
    assert sizes[:3] == [0, 1, len(calling.begun[0])] == [0, 1, 1]
    assert sizes[3] in (9, 10, 11), "what was sent in that second"


async def test_a_flood_gives_others_their_turn(make_remote_store):
    """A producer that awaits nothing but send() holds up no other task, and runs at most two batches ahead."""
    sent = []

    async def produce(send_channel):
        for n in range(2000):
            await send_channel.send(str(n))
            sent.append(n)

    async def slow(items, claim):
        await anyio.sleep(COMMIT)
        return await append_held(items, claim)

    async with open_calling(make_remote_store()) as (runs, calling):
        append_held, calling.store.append_held = calling.store.append_held, slow
        await runs.start("a", produce)
        await anyio.sleep(COMMIT / 2)
        assert 256 <= len(sent) <= 512
        assert plain(await watch(runs, "a")) == [*map(str, range(2000)), "completed"]


@pytest.mark.parametrize("loses_answers", [False, True])
async def test_an_append_that_fails(loses_answers, make_remote_store, caplog):
    """A store that is down for a while costs a run no event and doubles none, whether it kept the last one or not."""
    async with open_calling(make_remote_store()) as (runs, calling):
        await runs.start("a", count, 10, 2)
        await anyio.sleep(4.5)
        if loses_answers:
            calling.loses_answers = True
        else:
            calling.store.change(is_down=True)
            await anyio.sleep(5)
            calling.store.change(is_down=False)
        assert plain(await watch(runs, "a")) == [*map(str, range(10)), "completed"]
    assert "the run of 'runs/a' waits" in caplog.text


async def test_a_lease_that_is_lost(make_remote_store, caplog):
    """An owner whose lease is lost learns it with its next event, and appends nothing."""
    async with open_calling(make_remote_store()) as (runs, calling):
        await runs.start("a", count, 1000, 2)
        await anyio.sleep(3.5)
        held = await calling.store.held("runs/a")
        await calling.store.append_held([], Claim("runs/a", held.token, "stolen", seconds=60.0))
        await anyio.sleep(3)
        assert runs.running() == []
    assert "the run 'a' lost its lease" in caplog.text


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (ServerSentEvent("b", id="1"), "id must be None"),
        ("x" * 100, "it has sent more bytes than max_bytes=50"),
    ],
)
async def test_an_event_that_can_not_be_kept(sent, says, make_remote_store, caplog):
    """It fails the run, which says so in the log and keeps what came before; its send() raises nothing."""
    went_on = []

    async def produce(send_channel):
        await send_channel.send("a")
        await anyio.sleep(2)
        await send_channel.send(sent)
        went_on.append(True)
        await anyio.sleep_forever()

    async with open_calling(make_remote_store(), max_bytes=50) as (runs, calling):
        await runs.start("a", produce)
        assert plain(await watch(runs, "a")) == ["a", "failed"]
    assert went_on == [True]
    assert calling.begun == []  # the first event came before the task waited
    assert says in caplog.text


async def test_the_end_waits_for_what_is_under_way(make_remote_store):
    """A producer that returns at once, or is stopped, leaves no event behind the end."""
    async with open_calling(make_remote_store()) as (runs, _):
        await runs.start("a", lambda send_channel: send_channel.send("last"))
        await runs.start("b", count, 1000, 5)
        await anyio.sleep(5.5)
        await runs.stop("b")
        assert plain(await watch(runs, "a")) == ["last", "completed"]
        assert plain(await watch(runs, "b")) == ["0", "1", "stopped"]


@pytest.mark.usefixtures("real_clock")
async def test_another_thread_sends_nothing(make_remote_store):
    """A send() of a run from outside the event loop is an error, and nothing is given to the store."""
    raised = []

    async def produce(send_channel):
        await anyio.sleep(0)

        def send():
            try:
                send_channel.send("a").send(None)
            except RuntimeError as exc:
                raised.append(str(exc))

        await to_thread.run_sync(send)

    async with open_calling(make_remote_store()) as (runs, calling):
        await runs.start("a", produce)
        with anyio.fail_after(60):
            assert plain(await watch(runs, "a")) == ["completed"]
    assert "called from outside it" in raised[0]
    assert calling.begun == []


async def test_clients_get_all_of_it(make_remote_store):
    """The stream of a run in such a store has every event, then the end, and completes."""
    async with open_calling(make_remote_store()) as (runs, _):
        await runs.start("a", count, 5, 2)
        async with open_test_stream(runs.response("a")) as stream:
            assert plain([event async for event in stream if event.data]) == ["0", "1", "2", "3", "4", "completed"]
