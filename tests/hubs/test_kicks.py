"""Kicks through a hub: streams are ended by their labels in every process that shares it, and nobody sees how."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import anyio
import pytest

from sse_trio import CloseReason, EventSourceResponse, ServerSentEvent, StoreUnavailableError, StreamGroup, open_hub
from sse_trio.stores import MemoryStore, Retention, SQLiteStore, TopicFilter
from sse_trio.stores._kicks import KICKS, unpack_kick
from sse_trio.stores._protocol import pack_event
from sse_trio.testing import open_test_stream, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


async def wait(send_channel):
    await send_channel.send("hello")
    await anyio.sleep_forever()


@asynccontextmanager
async def streams_of(group, *labels):
    """Open a stream for each of these labels, and wait for its first event."""
    async with anyio.create_task_group() as tasks:
        ended = {}

        async def serve(name, these, *, task_status):
            async with open_test_stream(EventSourceResponse(wait, group=group, labels=these)) as stream:
                await stream.receive()
                task_status.started()
                await stream.wait_closed()
            ended[name] = stream.close_reason

        for number, these in enumerate(labels):
            await tasks.start(serve, number, these)
        yield ended
        tasks.cancel_scope.cancel()


ANN, ANN_2, BOB = {"user": "ann"}, {"user": "ann", "device": "2"}, {"user": "bob"}


async def test_labels_choose_streams():
    """kick() takes labels: a stream is ended if it has all of them, with these values."""
    group = StreamGroup(signals=False)
    async with streams_of(group, ANN, ANN_2, BOB, {}) as ended:
        assert await group.kick({"user": "ann", "device": "2"}) == 1
        assert await group.kick({"user": "carl"}) == 0
        await wait_all_tasks_blocked()
        assert ended == {1: CloseReason.KICKED}
        assert await group.kick({"user": "ann"}) == 1


@pytest.mark.parametrize("kind", ["memory", "remote"])
async def test_a_kick_by_a_hub(kind, make_remote_store):
    """hub.kick() ends the streams with these labels in all groups of the loop, or in those of one name."""
    store = MemoryStore() if kind == "memory" else make_remote_store()
    first, second = StreamGroup(signals=False), StreamGroup(name="admin", signals=False)
    async with (
        open_hub(store) as hub,
        streams_of(first, ANN, BOB) as of_first,
        streams_of(second, ANN, BOB) as of_second,
    ):
        await hub.kick({"user": "ann"}, group="admin")
        await wait_all_tasks_blocked()
        assert (of_first, of_second) == ({}, {0: CloseReason.KICKED})
        await hub.kick({"user": "bob"})
        await wait_all_tasks_blocked()
        assert (of_first, of_second) == ({1: CloseReason.KICKED}, {0: CloseReason.KICKED, 1: CloseReason.KICKED})


async def test_a_group_that_has_no_name_is_kicked_too():
    """Streams without a group are kicked like others: they are in the default group."""
    async with open_hub() as hub, streams_of(None, ANN) as ended:
        await hub.kick(ANN)
        await wait_all_tasks_blocked()
        assert ended == {0: CloseReason.KICKED}


async def test_a_kick_everywhere_counts_the_streams_of_this_process(make_remote_store):
    """group.kick(labels, everywhere=hub) ends those of this process before it returns, and says how many they were."""
    group = StreamGroup(signals=False)
    async with open_hub(make_remote_store()) as hub, streams_of(group, ANN, ANN_2, BOB) as ended:
        assert await group.kick({"user": "ann"}, everywhere=hub) == 2
        await wait_all_tasks_blocked()
        assert ended == {0: CloseReason.KICKED, 1: CloseReason.KICKED}


@pytest.mark.usefixtures("real_clock")
async def test_two_hubs_on_one_store(tmp_path):
    """A kick reaches the groups of whoever has the hub open. (In real processes: tests/e2e/test_kicks.py.)"""
    group = StreamGroup(signals=False)
    async with open_hub(SQLiteStore(tmp_path / "a")) as here, open_hub(SQLiteStore(tmp_path / "a")) as there:
        async with streams_of(group, ANN) as ended:
            await there.kick(ANN)
            with anyio.fail_after(20):
                while not ended:
                    await anyio.sleep(0.01)
        assert here.statistics().delivered == there.statistics().delivered == 0


@pytest.mark.usefixtures("real_clock")
async def test_a_kick_while_the_store_is_down(make_remote_store):
    """If the store is down, the streams of this process are ended, and the error says that the others may not be."""
    group, store = StreamGroup(signals=False), make_remote_store()
    async with open_hub(store) as hub, streams_of(group, ANN) as ended:
        store.is_down = True
        with pytest.raises(StoreUnavailableError):
            await group.kick(ANN, everywhere=hub)
        store.change(is_down=False)
        await anyio.sleep(0.05)
        assert ended == {0: CloseReason.KICKED}


async def test_a_process_that_could_not_reach_the_store_obeys_afterwards(make_remote_store):
    """A hub that was cut off from its store hears of the kicks meanwhile when it is there again."""
    group, store = StreamGroup(signals=False), make_remote_store()
    async with open_hub(store) as hub, streams_of(group, ANN) as ended:
        store.follows = False
        await hub.kick(ANN)
        await wait_all_tasks_blocked()
        assert ended == {}
        store.change(follows=True)
        await wait_all_tasks_blocked()
        assert ended == {0: CloseReason.KICKED}


async def test_a_kick_among_what_was_trimmed_is_obeyed(make_remote_store):
    """A hub that was cut off for so long that other topics have lost newer events hears of the kick all the same."""
    group, store = StreamGroup(signals=False), make_remote_store(per_topic=Retention(max_events=2))
    async with open_hub(store) as hub, streams_of(group, ANN) as ended:
        store.change(follows=False)
        await hub.publish_many([("a", f"{n}") for n in range(5)])
        await hub.kick(ANN)
        await hub.publish_many([("a", f"{n}") for n in range(5)])
        store.change(follows=True)
        await wait_all_tasks_blocked()
        assert ended == {0: CloseReason.KICKED}


@pytest.mark.parametrize(
    ("labels", "group", "error"),
    [
        ({}, None, ValueError),
        (None, None, TypeError),
        ({"user": 7}, None, TypeError),
        ("user", None, TypeError),
        (ANN, 7, TypeError),
    ],
)
async def test_what_can_not_be_kicked(labels, group, error):
    """No labels, which would be everybody everywhere, and what isn't labels, are refused before anything is done."""
    async with open_hub() as hub, streams_of(None, ANN) as ended:
        with pytest.raises(error):
            await hub.kick(labels, group=group)
        await wait_all_tasks_blocked()
        assert (ended, hub.statistics().published) == ({}, 0)


@pytest.mark.parametrize("predicate", [None, lambda labels: True, ["user"]])
async def test_everywhere_takes_labels(predicate):
    """A function can't be sent to another process: with everywhere=, anything but labels is an error."""
    group = StreamGroup(signals=False)
    async with open_hub() as hub, streams_of(group, ANN) as ended:
        with pytest.raises(TypeError, match=r"labels such as \{\"user\": \"ann\"\}, with everywhere="):
            await group.kick(predicate, everywhere=hub)
        with pytest.raises(ValueError, match="one label or more"):
            await group.kick({}, everywhere=hub)
        await wait_all_tasks_blocked()
        assert ended == {}


@pytest.mark.parametrize("kind", ["memory", "remote"])
@pytest.mark.parametrize("topics", [["*"], ["$sse_trio/*"], [KICKS]])
async def test_no_subscriber_sees_a_kick(topics, kind, make_remote_store):
    """Who subscribes to everything, by name too, sees no kick: not live, not in its history, not in a replay."""
    store = MemoryStore() if kind == "memory" else make_remote_store()
    async with open_hub(store) as hub:
        first = await hub.publish("a", "1")
        await wait_all_tasks_blocked()
        async with hub.subscribe(*topics) as live:
            for n in range(5):
                await hub.kick({"user": str(n)})
            await hub.publish("a", "2")
            await hub.kick(ANN)
            await wait_all_tasks_blocked()
            resumed, replayed = hub.subscribe(*topics, after=str(first)), hub.subscribe(*topics, replay=2)
            async with resumed, replayed:
                received = [await received_by(each) for each in (live, resumed, replayed)]
    assert received == ([["2"], ["2"], ["1", "2"]] if topics == ["*"] else [[], [], []])


async def received_by(subscription):
    received = []
    with anyio.move_on_after(1):
        while True:
            received.append((await subscription.receive()).data)
    return received


@pytest.mark.parametrize("count", [0, 1, 3, 100])
async def test_a_replay_has_as_many_events_as_were_asked_for(count):
    """replay= counts the events that a subscriber may see, however many kicks are among them."""
    async with open_hub() as hub:
        for n in range(6):
            await hub.publish("a", n)
            for _ in range(n):
                await hub.kick(ANN)
        async with hub.subscribe("*", replay=count) as subscription:
            assert await received_by(subscription) == [str(n) for n in range(6)][max(0, 6 - count) :]


async def test_nobody_publishes_to_a_reserved_topic():
    """The topic of the kicks is refused to publishers, who may take names of topics from outside."""
    async with open_hub() as hub:
        for publish in (hub.publish(KICKS, "x"), hub.publish_many([("a", "x"), ("$sse_trio/other", "x")])):
            with pytest.raises(ValueError, match=r"does not begin with \$sse_trio/"):
                await publish
        assert (await hub.publish("$sse_trio", "x")).sequence == 1


ORDERS = [
    b"",
    b"data: no json\n\n",
    b"data: 7\n\n",
    b"data: {}\n\n",
    b'data: {"labels": {}, "group": null}\n\n',
    b'data: {"labels": {"user": 7}, "group": null}\n\n',
    b'data: {"labels": {"user": "ann"}, "group": 7}\n\n',
    b"data: " + b"[" * 100_000 + b"\n\n",
    b"retry: x\n\n",
    b"\xff\n\n",
]


@pytest.mark.parametrize("payload", ORDERS, ids=range(len(ORDERS)))
async def test_an_order_that_makes_no_sense_ends_nothing(payload, make_remote_store, caplog):
    """What another program has written as a kick, and can't be one, is a line in the log; the hub goes on."""
    store = make_remote_store()
    async with open_hub(store) as hub, hub.subscribe("a") as subscription, streams_of(None, ANN) as ended:
        await store.append([(KICKS, payload)])
        await hub.publish("a", "x")
        assert (await subscription.receive()).data == "x"
        assert ended == {}
    assert "makes no sense" in caplog.text


async def test_what_a_kick_is_in_the_store():
    """In the store a kick is an event that other programs can write: docs/store-format.md."""
    async with open_hub(store := MemoryStore()) as hub:
        await hub.kick(ANN, group="sessions")
        (event,) = (await store.read_last(TopicFilter("*"), 5)).events
    assert (event.topic, event.event.event) == ("$sse_trio/kick", "kick")
    assert json.loads(event.event.data) == {"labels": {"user": "ann"}, "group": "sessions"}
    assert unpack_kick(pack_event(ServerSentEvent('{"labels":{"a":"b"},"group":null}'))).labels == {"a": "b"}
