# RedisStore on a bad network and on servers that die. The long run is benchmarks/redis_faults.py.

from __future__ import annotations

import importlib.util
import os
import random
import secrets
from importlib.metadata import version as version_of
from pathlib import Path

import anyio
import pytest

from sse_trio._errors import StoreUnavailableError
from sse_trio.stores import EventId, TopicFilter

from .._volume import volume

RedisStore = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed").RedisStore
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock", "forgive_coredis")]
if tuple(map(int, version_of("anyio").split(".")[:2])) < (4, 16):
    # Before 4.16, anyio leaves what a cancelled connect had opened to the garbage collector.
    pytestmark.append(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
ALL = TopicFilter("*")
FAULTS = int(os.environ.get("SSE_TRIO_REDIS_FAULTS", volume(25)))


def load_faults():
    path = Path(__file__).parents[2] / "benchmarks" / "redis_faults.py"
    spec = importlib.util.spec_from_file_location("redis_faults", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.timeout(60 + FAULTS)
async def test_nothing_is_lost_doubled_or_reordered_by_faults(make_redis, make_proxy):
    """Whatever the network and the server do, each acknowledged event arrives once and in order."""
    server = make_redis()
    result = await load_faults().Run(server, make_proxy(server), FAULTS, random.randrange(1000)).main()
    bad = {what: result[what] for what in ("lost", "doubled", "out of order", "other ids than acknowledged")}
    assert not any(bad.values()), result
    assert result["acknowledged"] > FAULTS


async def test_500_cancelled_calls_leave_the_store_working(shared_redis, make_proxy):
    """Cancelled subscriptions, reads and appends cost no connection; coredis' own pool would be dead after 64."""
    proxy = make_proxy(shared_redis)
    async with RedisStore(proxy.url, name=secrets.token_hex(4)) as store:
        (start,) = await store.append([("a", b"0")])
        for n in range(500):
            with anyio.move_on_after(0.0005 * (n % 4)):
                if n % 3:
                    await store.read(ALL, None)
                else:
                    await store.append([("a", b"%d" % n)])
        with anyio.fail_after(5):
            (id_,) = await store.append([("a", b"last")])
            assert (await store.read_last(ALL, 1)).events[0].id == id_
        assert id_.sequence > start.sequence
        assert proxy.connections == 2


@pytest.mark.untraced
async def test_500_cancelled_followers_leave_the_store_working(shared_redis):
    """A follower that is cancelled in a blocking read closes its connection."""
    async with RedisStore(shared_redis.url, name=secrets.token_hex(4)) as store:
        (id_,) = await store.append([("a", b"0")])
        for n in range(500):
            with anyio.move_on_after(0.004 * (n % 3)):
                async with store.follow(id_) as pages:
                    await anext(pages)
        with anyio.fail_after(5):
            (new,) = await store.append([("a", b"1")])
            async with store.follow(id_) as pages:
                assert [event.id for event in (await anext(pages)).events] == [new]


@pytest.mark.slow
async def test_a_killed_server_has_kept_all_that_was_acknowledged(make_redis):
    """With appendfsync always nothing acknowledged is lost by kill -9 in mid-write, and nobody gets a gap."""
    server = make_redis()
    enough = anyio.Event()
    acknowledged = []

    async def publish(topic):
        n = 0
        while True:
            n += 1
            try:
                acknowledged.extend(await store.append([(topic, b"%d" % n)]))
                if len(acknowledged) > 300:
                    enough.set()
            except StoreUnavailableError:
                return

    async with RedisStore(server.url, retry_for=0) as store:
        (first,) = await store.append([("warm", b"")])
        async with anyio.create_task_group() as group:
            for n in range(20):
                group.start_soon(publish, f"t/{n}")
            await enough.wait()
            server.kill()
    server.start()
    async with RedisStore(server.url) as store:
        page = await store.read(ALL, first, limit=10_000)
        assert page.gap is None
        assert {id_.sequence for id_ in acknowledged} <= {event.id.sequence for event in page.events}
        last = max(acknowledged)
        assert (await store.read(ALL, last)).gap is None


async def test_a_server_that_is_down_at_start_fails_the_start(make_redis):
    """If the server can't be reached at the start, the store says so at once, without a password."""
    server = make_redis()
    server.kill()
    with pytest.raises(StoreUnavailableError, match=rf"Redis at 127.0.0.1:{server.port} is not available"):
        async with RedisStore(f"redis://me:secret@127.0.0.1:{server.port}"):
            pass


async def test_a_silent_server_fails_the_start_in_time(shared_redis, make_proxy):
    """A server that accepts but doesn't answer fails the start after `reply_within` seconds."""
    proxy = make_proxy(shared_redis)
    proxy.mode = "black hole"
    with anyio.fail_after(5), pytest.raises(StoreUnavailableError):
        async with RedisStore(proxy.url, reply_within=0.2):
            pass


async def test_a_start_is_cancelled_at_once(shared_redis, make_proxy):
    """A start that waits for a silent server can be cancelled at once."""
    proxy = make_proxy(shared_redis)
    proxy.mode = "black hole"
    with anyio.fail_after(20), anyio.move_on_after(0.1) as scope:
        async with RedisStore(proxy.url, reply_within=30):
            pass
    assert scope.cancelled_caught


async def test_down_later_publishers_get_the_error_and_followers_catch_up(make_redis):
    """While the server is down append raises after `retry_for`; afterwards all goes on, by itself and without a gap."""
    server = make_redis()
    async with RedisStore(server.url, reply_within=2.0, retry_for=0.2) as store:
        (before,) = await store.append([("a", b"before")])
        async with store.follow(before) as pages:
            server.kill()
            with anyio.fail_after(5), pytest.raises(StoreUnavailableError):
                await store.append([("a", b"during")])
            with anyio.fail_after(5), pytest.raises(StoreUnavailableError):
                await store.read(ALL, None)
            server.start()
            with anyio.fail_after(10):
                (after,) = await store.append([("a", b"after")])
                page = await anext(pages)
            assert page.gap is None
            assert [event.id for event in page.events] == [after]
            assert (await store.read(ALL, before)).gap is None


async def test_lost_history_is_a_new_epoch_and_a_gap(make_redis):
    """FLUSHALL, or a restart without a file, ends the history: followers and readers get a gap, old ids don't fit."""
    server = make_redis()
    async with RedisStore(server.url, reply_within=0.2) as store:
        ids = await store.append([("a", b"0"), ("a", b"1")])
        async with store.follow(ids[-1]) as pages:
            server.command("FLUSHALL")
            (new,) = await store.append([("a", b"2")])
            assert new.epoch != ids[0].epoch
            with anyio.fail_after(5):
                page = await anext(pages)
            assert page.gap == (ids[-1], new)
            assert [event.id for event in page.events] == [new]
        assert (await store.read(ALL, ids[0])).gap == (ids[0], new)
        assert store.epoch == new.epoch


async def test_a_server_that_went_back_in_time_is_found_out(make_redis):
    """If a failover lost the newest events, a new epoch begins, and exactly those who have seen one get a gap."""
    server = make_redis()
    async with RedisStore(server.url, name="h", reply_within=2.0) as store:
        ids = await store.append([("a", b"%d" % n) for n in range(3)])
        server.command("XDEL", f"{{h}}:{store.epoch}:log", "3-0")
        server.command("HSET", "{h}:meta", "seq", "2", "count", "2")
        server.command("XDEL", f"{{h}}:{store.epoch}:topic:a", "3-0")
        assert (await store.read(ALL, ids[0])).gap is None
        page = await store.read(ALL, ids[2])
        assert page.tip.sequence == 2
        assert page.tip.epoch != ids[2].epoch
        assert page.gap is not None
        assert [event.payload for event in page.events] == [b"0", b"1"]


async def test_a_server_that_went_back_in_time_gives_no_id_twice(make_redis):
    """Also a process that has seen none of what is gone gives new ids: whoever has seen it gets a gap, nobody else."""
    server = make_redis("--appendonly", "no")
    async with RedisStore(server.url, name="h") as store:
        kept = await store.append([("a", b"kept")])
        server.command("SAVE")
        lost = await store.append([("a", b"lost"), ("a", b"lost too")])
    server.restart()
    async with RedisStore(server.url, name="h") as store:
        news = await store.append([("a", b"%d" % n) for n in range(3)])
        assert not {*kept, *lost} & {*news}
        page = await store.read(ALL, kept[0])
        assert (page.gap, [event.payload for event in page.events]) == (None, [b"0", b"1", b"2"])
        assert [(await store.read(ALL, id_)).gap for id_ in lost] == [
            (id_, kept[0]._replace(epoch=news[0].epoch)) for id_ in lost
        ]


async def test_a_server_that_is_full_is_read(make_redis):
    """A server that was restarted and has no memory left takes no event, and gives those that it has."""
    server = make_redis()
    async with RedisStore(server.url, name="h", retry_for=0.3) as store:
        ids = await store.append([("a", b"1"), ("a", b"2")])
        server.restart()
        server.command("CONFIG SET maxmemory 1")
        assert [event.id for event in (await store.read(ALL, ids[0])).events] == ids[1:]
        async with store.follow(ids[0]) as pages:
            assert [event.id for event in (await anext(pages)).events] == ids[1:]
        with pytest.raises(StoreUnavailableError, match="OOM"):
            await store.append([("a", b"3")])
        server.command("CONFIG SET maxmemory 0")
        assert [id_.sequence for id_ in await store.append([("a", b"3")])] == [3]


async def test_a_user_without_info_publishes(make_redis):
    """A server that does not say which one it is, or may not be asked, is believed to keep what it has."""
    server = make_redis()
    assert server.command("ACL SETUSER app on >x ~* &* +@all -info").startswith(b"+OK")
    async with RedisStore(server.url.replace("//", "//app:x@"), name="h") as store:
        (first,) = await store.append([("a", b"1")])
    server.restart()
    assert server.command("ACL SETUSER app on >x ~* &* +@all -info").startswith(b"+OK")
    async with RedisStore(server.url.replace("//", "//app:x@"), name="h") as store:
        assert await store.append([("a", b"2")]) == [first._replace(sequence=2)]


async def test_a_key_evicted_by_hand_is_found_out(make_redis):
    """A log that has another number of events than expected is a lost history."""
    server = make_redis()
    async with RedisStore(server.url, name="h") as store:
        ids = await store.append([("a", b"%d" % n) for n in range(3)])
        server.command("DEL", f"{{h}}:{store.epoch}:log")
        page = await store.read(ALL, ids[0])
        assert page.gap == (ids[0], None)
        assert page.tip.sequence == 0


async def test_a_group_that_arrives_late_is_refused(shared_redis):
    """A group that its writer gave up is not appended if it arrives after the next one."""
    async with RedisStore(shared_redis.url, name=secrets.token_hex(4)) as store:
        late = store._commits  # the same writer sends two groups; then the first arrives again
        await store.append([("a", b"1")])
        await store.append([("a", b"2")])
        from sse_trio.stores._append import Append

        append = Append([("a", b"1")], None)
        with pytest.raises(StoreUnavailableError, match="STALE"):
            await store._writer.call(lambda client: store._log.append(client, [append], 1), retry_for=0)
        again = await store._writer.call(lambda client: store._log.append(client, [append], 2), retry_for=0)
        assert again == [[EventId(store.epoch, 2)]]
        assert late is store._commits
        assert len((await store.read(ALL, None)).events) == 2


@pytest.mark.parametrize(
    ("options", "seconds"), [({}, 600), ({"remember_keys": 5.0}, 600), ({"retry_for": 3600.0}, 7200)]
)
async def test_a_group_is_known_for_as_long_as_it_is_sent_again(shared_redis, options, seconds):
    """However short keys are remembered, and however long a group is tried, the server knows that it has had it."""
    name = secrets.token_hex(4)
    async with RedisStore(shared_redis.url, name=name, **options) as store:
        await store.append([("a", b"1")])
        writer = f"{{{name}}}:writer:{store._log._calls._writer}"
        assert seconds - 100 < int(shared_redis.command("TTL", writer).strip(b":\r\n")) <= seconds
