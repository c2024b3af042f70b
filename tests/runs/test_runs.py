# Runs in one process, with virtual time: starting, watching, resuming, and every way to end.

from __future__ import annotations

import inspect
import json
import logging
import time
from contextlib import AsyncExitStack

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import (
    CloseReason,
    EventSendChannel,
    EventSourceResponse,
    RunExistsError,
    ServerSentEvent,
    StoreUnavailableError,
    last_event_id,
    open_hub,
    open_runs,
)
from sse_trio._runs.response import RunResponseOptions
from sse_trio.stores import MemoryStore, Retention
from sse_trio.stores._holds import Claim
from sse_trio.testing import StreamingASGITransport, open_test_stream, wait_all_tasks_blocked

from .conftest import open_process

pytestmark = pytest.mark.anyio


async def count(send_channel: EventSendChannel, number: int, seconds: float = 0.1) -> None:
    """Send a number of events, with some time between them."""
    for n in range(number):
        await send_channel.send(str(n))
        await anyio.sleep(seconds)


def plain(events):
    """Return the data of each event, and of the end its state."""
    return [event.data if event.event != "end" else json.loads(event.data)["state"] for event in events]


async def watch(runs, key, after=None):
    """Return everything that a watcher of a run gets."""
    async with runs.watch(key, after=after) as subscription:
        return [event async for event in subscription]


async def stream(runs, key, after=None):
    """Return everything that a client of a run is sent."""
    async with open_test_stream(runs.response(key, after=after)) as opened:
        return [event async for event in opened if event.data]


async def status_of(response, method="GET"):
    """Serve a response that is no stream, and return its status."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    await response({"type": "http", "method": method, "path": "/", "headers": []}, receive, send)
    return sent[0]["status"]


async def test_a_run_goes_on_without_a_client():
    """A client that leaves ends nothing; one that comes back with its last id gets the remainder, and the end."""
    async with open_process() as runs:
        started = await runs.start("chat/42", count, 10)
        assert (started.key, started.started_here) == ("chat/42", True)
        async with open_test_stream(runs.response("chat/42")) as opened:
            seen = [await opened.receive() for _ in range(3)]
        await anyio.sleep(5)
        assert (await runs.status("chat/42")).state == "completed"
        rest = await stream(runs, "chat/42", seen[-1].id)
        assert plain([*seen, *rest]) == [*map(str, range(10)), "completed"]


async def test_a_run_is_started_once():
    """A second start of a live key finds the first; of one that has ended it is an error, or replaces it."""
    async with open_process() as runs:
        assert (await runs.start("a", count, 3)).started_here
        assert not (await runs.start("a", count, 3)).started_here
        assert plain(await watch(runs, "a")) == ["0", "1", "2", "completed"]
        with pytest.raises(RunExistsError, match=r"there is a run 'a' already, which has ended \(completed\)"):
            await runs.start("a", count, 3)
        assert (await runs.start("a", count, 2, replace=True)).started_here
        assert plain(await watch(runs, "a")) == ["0", "1", "completed"]
        assert runs.statistics().started == 2


async def test_many_starts_at_once():
    """Of starts of one key at the same moment, one has started it."""
    async with open_process() as runs:
        results = []

        async def start():
            results.append((await runs.start("a", count, 3)).started_here)

        async with anyio.create_task_group() as nursery:
            for _ in range(10):
                nursery.start_soon(start)
        assert sorted(results) == [False] * 9 + [True]
        assert plain(await watch(runs, "a")) == ["0", "1", "2", "completed"]


async def test_the_whole_of_a_long_run():
    """2,500 events come from the beginning, exactly, although the hub's own limits keep fewer."""
    async with open_process(MemoryStore(max_events=100, per_topic=Retention(max_events=50))) as runs:
        await runs.start("long", count, 2500, 0)
        while (await runs.status("long")).state == "running":
            await anyio.sleep(1)
        events = await stream(runs, "long")
        assert plain(events) == [*map(str, range(2500)), "completed"]
        assert plain(await stream(runs, "long", events[1000].id)) == [*map(str, range(1001, 2500)), "completed"]


async def test_watchers_share_what_they_are_written():
    """All who watch a run live are written the same objects, those of its end too."""
    async with open_process() as runs, AsyncExitStack() as stack:
        await runs.start("a", count, 3)
        streams = [await stack.enter_async_context(open_test_stream(runs.response("a"))) for _ in range(3)]
        for stream in streams:
            await stream.wait_closed()
        written = [[id(m["body"]) for m in stream.messages if b"data: " in m.get("body", b"")] for stream in streams]
        assert written[0][1:] == written[1][1:] == written[2][1:]  # the first is history
        assert len(written[0]) == 4


async def test_a_reserved_prefix():
    """Runs have no topics that carry what the processes of a hub tell each other."""
    async with open_hub() as hub:
        for prefix in ("$sse_trio", "$sse_trio/runs"):
            with pytest.raises(ValueError, match="prefix must be a str that does not begin with"):
                async with open_runs(hub, prefix=prefix):
                    pass


async def test_a_reload_costs_one_read(make_remote_store):
    """A client that comes back to a live run costs one read of the store, for what it has missed."""
    store = make_holding(make_remote_store())
    async with open_process(store) as runs:
        await runs.start("a", count, 100)
        await anyio.sleep(5)
        first = (await read_some(runs, "a", None, 10))[-1]
        store.reads = 0
        assert plain(await read_some(runs, "a", first.id, 20)) == [*map(str, range(10, 30))]
        assert store.reads == 1


async def read_some(runs, key, after, number):
    async with runs.watch(key, after=after) as subscription:
        return [await subscription.receive() for _ in range(number)]


def make_holding(store):
    """Give a RemoteStore what runs need."""

    async def append_held(items, claim):
        store._check_up()
        ids = await store._store.append_held(items, claim)
        store.change()
        return ids

    async def held(topic):
        store._check_up()
        return await store._store.held(topic)

    async def held_due(prefix, *, limit=100):
        store._check_up()
        return await store._store.held_due(prefix, limit=limit)

    store.append_held, store.held, store.held_due = append_held, held, held_due
    return store


async def test_statuses():
    """A client that has seen the end is answered 204, an unknown or expired key 404, and others get the stream."""
    async with open_process(ttl=60) as runs:
        assert await runs.status("a") is None
        assert await status_of(runs.response("a")) == 404
        assert await status_of(runs.response("a"), "HEAD") == 404
        await runs.start("a", count, 2)
        events = await stream(runs, "a")
        assert await status_of(runs.response("a", after=events[-1].id)) == 204
        assert await status_of(runs.response("a", after="another-1"), "HEAD") == 200
        await anyio.sleep(59)
        assert plain(await stream(runs, "a", events[0].id)) == ["1", "completed"]
        await anyio.sleep(2)
        assert await status_of(runs.response("a", after=events[-1].id)) == 404
        assert await runs.status("a") is None
        assert (await runs.start("a", count, 1)).started_here


async def test_an_expired_run_is_gone_as_a_whole():
    """The time to live after its end, nothing of a run is in the store."""
    store = MemoryStore()
    async with open_hub(store) as hub, open_runs(hub, ttl=30) as runs:
        await runs.start("a", count, 5)
        await watch(runs, "a")
        await anyio.sleep(45)
        assert (await hub.history("runs/a")).events == ()
        assert await store.held("runs/a") is None


@pytest.mark.parametrize("how", ["expires", "deleted", "replaced"])
async def test_a_reader_that_is_slower_than_the_time_to_live(how):
    """Who has yet to read the beginning when a run's log goes is sent a gap, and does not wait for what can't come."""
    async with open_process(ttl=60) as runs, AsyncExitStack() as stack:
        await runs.start("a", count, 3000, 0)
        await watch(runs, "a")
        own = await stack.enter_async_context(runs.watch("a"))
        client = await stack.enter_async_context(open_test_stream(runs.response("a", send_timeout=None)))
        client.stall()
        await own.receive()
        if how == "expires":
            await anyio.sleep(300)
        elif how == "deleted":
            await runs.delete("a")
        else:
            await runs.start("a", count, 2, replace=True)
        client.resume()
        with anyio.fail_after(30):
            received = [event async for event in own], [event async for event in client]
        for events in received:
            last = ["gap", *([None, None, "end"] if how == "replaced" else [])]
            assert [event.event if event.event != "message" else None for event in events][-len(last) :] == last


async def test_a_run_that_goes_when_its_watcher_was_admitted():
    """A client that asks for a run in the moment in which it goes gets an empty stream, which ends."""

    class Store(MemoryStore):
        async def held(self, topic):
            found = await super().held(topic)
            if found is not None:
                await self.append_held([], Claim(topic, found.token, None, clear=True))
            return found

    async with open_process(Store()) as runs:
        with anyio.fail_after(30):
            await runs.start("a", count, 3)
            await watch(runs, "a")
            assert await stream(runs, "a") == []
        assert await status_of(runs.response("a")) == 404


async def test_a_task_that_watches_before_the_start():
    """A task that watches a key that is not known yet gets the run that begins under it."""
    async with open_process() as runs, runs.watch("a") as early:
        await runs.start("a", count, 2)
        with anyio.fail_after(30):
            assert plain([event async for event in early]) == ["0", "1", "completed"]


async def test_a_watcher_that_comes_before_the_first_event():
    """It waits for it, and the store is not asked whether the run is still there."""
    asked = []

    class Store(MemoryStore):
        async def held(self, topic):
            asked.append(topic)
            return await super().held(topic)

    async def late(send_channel):
        await anyio.sleep(1)
        await send_channel.send("late")

    async with open_process(Store()) as runs:
        await runs.start("a", late)
        del asked[:]
        assert plain(await stream(runs, "a")) == ["late", "completed"]
        assert asked == []


async def test_the_start_and_the_watching_are_one_request():
    """A POST may start a run and be answered with its stream."""

    async def chat(request: Request):
        await runs.start("a", count, 3)
        return runs.response("a", after=last_event_id(request))

    async with open_process() as runs:
        transport = StreamingASGITransport(Starlette(routes=[Route("/", chat, methods=["POST"])]))
        from httpx import AsyncClient

        async with AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post("/")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.endswith(':end completed\nevent: end\ndata: {"state":"completed"}\n\n')


async def test_options_of_a_response():
    """A run's stream takes every option of a response, except those of a producer's channel and of a status."""
    options = {*inspect.signature(EventSourceResponse).parameters}
    of_a_producer = {"source", "args", "content", "producers", "grace", "on_error", "errors", "overflow", "conflate"}
    assert {*RunResponseOptions.__annotations__} == options - of_a_producer - {
        *("status_code", "max_buffer_size", "max_buffer_bytes")
    }


async def test_a_stream_of_a_run_expires():
    """`expires_at=` ends the stream when the client's token does; the run goes on."""
    async with open_process() as runs:
        await runs.start("a", count, 50)
        async with open_test_stream(runs.response("a", expires_at=time.time())) as opened:
            await opened.wait_closed()
        assert opened.close_reason is CloseReason.LIFETIME
        assert (await runs.status("a")).state == "running"
        assert plain(await watch(runs, "a"))[-1] == "completed"


async def test_a_producer_that_raises(caplog):
    """The run has failed: its exception is logged once, with the key, and clients are told nothing of it."""
    ends = []

    async def fail(send_channel):
        await send_channel.send("1")
        raise LookupError("a secret")

    async with open_process(on_end=lambda end: ends.append(end) or ServerSentEvent("[DONE]")) as runs:
        await runs.start("a", fail, labels={"user": "ann"})
        assert [event.data for event in await watch(runs, "a")] == ["1", "[DONE]"]
        assert (await runs.status("a")).state == "failed"
    (end,) = ends
    assert (end.key, end.state, end.reason, end.labels) == ("a", "failed", "exception", {"user": "ann"})
    assert repr(end.exception) == "LookupError('a secret')"
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "the producer of the run 'a' failed"


async def test_an_end_that_is_not_sent():
    """With `on_end` that returns None, clients get the id of the end and no event, and then a 204."""
    async with open_process(on_end=lambda _: None) as runs:
        await runs.start("a", count, 1)
        async with open_test_stream(runs.response("a")) as opened:
            events = [event async for event in opened]
            assert [event.data for event in events] == ["0"]
            assert opened.body.endswith(b"-2\n:end completed\n\n")
        assert await status_of(runs.response("a", after=events[0].id[:-1] + "2")) == 204


@pytest.mark.parametrize("bad", [lambda _: 1 / 0, lambda _: "text", lambda _: ServerSentEvent("x", id="1")])
async def test_an_on_end_that_fails(bad, caplog):
    """That is logged, and clients are sent the default; the run has ended as it did."""
    async with open_process(on_end=bad) as runs:
        await runs.start("a", count, 1)
        assert plain(await watch(runs, "a")) == ["0", "completed"]
    assert "on_end failed for the run 'a'" in caplog.text


async def test_stop():
    """It cancels the producer, waits for its cleanup, and returns when the run has ended; cleanup may still send."""
    cleaned = []

    async def produce(send_channel):
        try:
            await count(send_channel, 1000)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.2)
                await send_channel.send("last words")
            cleaned.append(send_channel.close_reason)

    async with open_process() as runs:
        await runs.start("a", produce)
        await anyio.sleep(0.25)
        status = await runs.stop("a")
        assert (status.state, status.reason, cleaned) == ("stopped", "stop", [CloseReason.KICKED])
        assert plain(await watch(runs, "a")) == ["0", "1", "2", "last words", "stopped"]
        assert (await runs.stop("a")).state == "stopped"
        assert await runs.stop("never was") is None


async def test_a_producer_that_shields_itself():
    """A stopped producer that goes on sending in a shielded scope is refused after a second, and that is no failure."""

    async def produce(send_channel):
        with anyio.CancelScope(shield=True):
            await count(send_channel, 1000)

    async with open_process() as runs:
        await runs.start("a", produce)
        before = anyio.current_time()
        assert (await runs.stop("a")).state == "stopped"
        assert anyio.current_time() - before < 1.5


async def test_what_a_stopped_producer_raises_is_logged(caplog):
    """The first cause of an end counts: the run was stopped. What the cleanup raised is in the log."""

    async def produce(send_channel):
        try:
            await anyio.sleep_forever()
        finally:
            raise LookupError("in the cleanup")

    async with open_process() as runs:
        await runs.start("a", produce)
        await wait_all_tasks_blocked()
        assert (await runs.stop("a")).state == "stopped"
    assert "the producer of the run 'a' failed" in caplog.text


async def test_a_stray_cancellation_is_a_failure(caplog):
    """A cancellation that nobody has requested, as of a client library's task, is a failed run."""

    async def produce(send_channel):
        raise anyio.get_cancelled_exc_class()

    if caplog and anyio.get_cancelled_exc_class().__module__.startswith("trio"):
        pytest.skip("not applicable: trio makes no cancellation by hand")
    async with open_process() as runs:
        await runs.start("a", produce)
        assert plain(await watch(runs, "a")) == ["failed"]
    assert "a cancellation that was not requested" in caplog.text


async def test_shutdown_tells_producers_first():
    """Leaving open_runs() tells producers, gives them their grace, and interrupts what has not finished."""
    store = MemoryStore()
    finished = []

    async def polite(send_channel):
        await send_channel.wait_closing()
        await anyio.sleep(1)
        finished.append(send_channel.close_reason)

    async with open_hub(store) as hub:
        async with open_runs(hub, grace=3) as runs:
            await runs.start("polite", polite)
            await runs.start("rude", count, 1000)
            await anyio.sleep(0.05)
        assert finished == [CloseReason.SHUTDOWN]
        with pytest.raises(anyio.ClosedResourceError):
            await runs.start("late", count, 1)
        async with open_runs(hub) as later:
            assert (await later.status("polite")).state == "completed"
            assert (await later.status("rude")).state == "interrupted"
            events = plain(await watch(later, "rude"))
            assert events == [*map(str, range(len(events) - 1)), "interrupted"]
            assert len(events) == 32


async def test_cancelled_from_outside():
    """If the task around open_runs() is cancelled, runs are interrupted: their cleanup runs, and the end is stored."""
    cleaned = []

    async def produce(send_channel):
        try:
            await count(send_channel, 1000)
        finally:
            cleaned.append(True)

    async with open_hub() as hub:
        with anyio.move_on_after(1):
            async with open_runs(hub) as runs:
                await runs.start("a", produce)
                await anyio.sleep_forever()
        assert cleaned == [True]
        async with open_runs(hub) as later:
            assert (await later.status("a")).state == "interrupted"


async def test_limits(caplog):
    """A run that sends more than it may keep has failed, says so in the log, and keeps what it had."""
    async with open_process(max_events=5, max_bytes=100) as runs:
        await runs.start("events", count, 10)
        assert plain(await watch(runs, "events")) == ["0", "1", "2", "3", "4", "failed"]
        await runs.start("bytes", lambda send_channel: send_channel.send("x" * 100))
        assert plain(await watch(runs, "bytes")) == ["failed"]
        assert (await runs.status("bytes")).reason == "max_bytes"
    assert "the run 'events' failed: it has sent more events than max_events=5" in caplog.text


@pytest.mark.parametrize("what", ["max_events", "max_bytes", "exception"])
async def test_what_was_sent_before_the_limit_is_kept(what):
    """A run that fails in the middle of a burst keeps all of it that it may, however it came to the store."""

    async def flood(send_channel):
        for n in range(200):
            has_id = what == "exception" and n == 100
            await send_channel.send(ServerSentEvent(f"{n:03}", id="1" if has_id else None))

    limits = {"max_events": {"max_events": 100}, "max_bytes": {"max_bytes": 100 * len("data: 000\n\n")}}
    async with open_process(**limits.get(what, {})) as runs:
        await runs.start("a", flood)
        assert plain(await watch(runs, "a")) == [*[f"{n:03}" for n in range(100)], "failed"]
        assert (await runs.status("a")).reason == what


async def test_max_duration():
    """A run that takes longer is stopped."""
    async with open_process(max_duration=1.05) as runs:
        await runs.start("a", count, 1000)
        await runs.start("b", count, 1000, max_duration=0.55)
        assert len(await watch(runs, "a")) == 12
        assert len(await watch(runs, "b")) == 7
        assert (await runs.status("a")).reason == "max_duration"


async def test_stop_when_unwatched():
    """A run that nobody has watched for some time is stopped; while it is watched, and shortly after, it goes on."""
    async with open_process() as runs:
        await runs.start("a", count, 10_000, stop_when_unwatched=5)
        await anyio.sleep(4)
        async with open_test_stream(runs.response("a")) as opened:
            await opened.receive()
            await anyio.sleep(20)
            assert (await runs.status("a")).watchers == runs.statistics().watchers == 1
        await anyio.sleep(4)
        assert (await runs.status("a")).state == "running"
        await anyio.sleep(2)
        assert (await runs.status("a")).reason == "unwatched"


async def test_an_event_with_an_id_fails_the_run(caplog):
    """The hub gives the ids, so a producer that gives one of its own has made a mistake, which is logged."""

    async def produce(send_channel):
        await send_channel.send(ServerSentEvent("x", id="1"))
        await anyio.sleep_forever()

    async with open_process() as runs:
        await runs.start("a", produce)
        assert plain(await watch(runs, "a")) == ["failed"]
    assert "id must be None" in caplog.text


async def test_delete():
    """A run that was deleted is one that never was; one that runs is stopped before."""
    async with open_process() as runs:
        await runs.start("a", count, 1000)
        await anyio.sleep(1)
        await runs.delete("a")
        await runs.delete("a")
        assert await runs.status("a") is None
        assert await status_of(runs.response("a")) == 404
        assert (await runs.start("a", count, 1)).started_here


async def test_keys():
    """Any text is a key, also one that looks like a pattern; an empty one is a mistake."""
    async with open_process() as runs:
        for key in ("*", "a/*", "%2A", "100%", "a/b"):
            await runs.start(key, count, 1)
            assert plain(await watch(runs, key)) == ["0", "completed"]
            assert (await runs.status(key)).key == key
        for mistake in ("", "x" * 2000, "\ud800", 7):
            with pytest.raises((ValueError, TypeError)):
                await runs.start(mistake, count, 1)


async def test_a_store_that_is_down_for_a_while(make_remote_store):
    """The run waits, and goes on without a loss or a double; watchers see a pause."""
    store = make_holding(make_remote_store())
    async with open_process(store, lease=1000) as runs:
        await runs.start("a", count, 50)
        await anyio.sleep(1)
        store.change(is_down=True)
        with pytest.raises(StoreUnavailableError):
            await runs.start("b", count, 1)
        await anyio.sleep(30)
        store.change(is_down=False)
        assert plain(await watch(runs, "a")) == [*map(str, range(50)), "completed"]


async def test_an_append_whose_answer_was_lost(make_remote_store):
    """What was kept although the store said that it is down is not appended again."""
    store = make_holding(make_remote_store())
    append_held, lost = store.append_held, []

    async def lose_answers(items, claim):
        ids = await append_held(items, claim)
        if len(lost) < 6:
            lost.append(ids)
            raise StoreUnavailableError("the remote store", "it is down")
        return ids

    async with open_process(store, lease=1000) as runs:
        await runs.start("a", count, 50)
        await anyio.sleep(1)
        store.append_held = lose_answers
        assert plain(await watch(runs, "a")) == [*map(str, range(50)), "completed"]
        lost.clear()
        store.append_held = append_held
        await runs.start("b", count, 2)
        await anyio.sleep(0.15)
        store.append_held = lose_answers
        assert plain(await watch(runs, "b")) == ["0", "1", "completed"]


async def test_a_store_that_is_down_at_the_end(make_remote_store):
    """Leaving open_runs() does not wait for a store that is down."""
    store = make_holding(make_remote_store())
    async with open_process(store) as runs:
        await runs.start("a", count, 1000)
        await anyio.sleep(1)
        store.change(is_down=True)
        await anyio.sleep(1)
        before = anyio.current_time()
    assert anyio.current_time() - before < 3
