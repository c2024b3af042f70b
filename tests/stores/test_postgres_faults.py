# PostgresStore when something fails. The long runs are benchmarks/postgres_faults.py and postgres_transactions.py.

from __future__ import annotations

import importlib.util
import json
import os
import random
import sys
from pathlib import Path

import anyio
import pytest

from sse_trio._errors import StoreUnavailableError
from sse_trio.stores import EventId, Retention, TopicFilter
from sse_trio.stores._append import Append
from sse_trio.testing._store_locations import ALL, plain

from ..e2e._servers import patience
from ._postgres import follow_by_looking

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
from sse_trio.stores._postgres.connection import PostgresServer  # noqa: E402 -- likewise
from sse_trio.stores.postgres import PostgresStore, opener_of  # noqa: E402 -- it needs psycopg

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]
FAULTS = int(os.environ.get("SSE_TRIO_POSTGRES_FAULTS", "5"))
BACKENDS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sse_trio'"


def load(program):
    path = Path(__file__).parents[2] / "benchmarks" / f"{program}.py"
    spec = importlib.util.spec_from_file_location(program, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.timeout(120 + FAULTS)
async def test_nothing_is_lost_doubled_or_reordered_by_faults(shared_postgres, make_proxy):
    """Whatever the network and the server do, what is committed arrives once and in order, and nothing else does."""
    faults = load("postgres_faults")
    result = await faults.Run(shared_postgres, [make_proxy(shared_postgres)], FAULTS, random.randrange(1000)).main()
    assert not any(result[what] for what in faults.BAD), result
    assert result["acknowledged"] > FAULTS


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.timeout(180)
async def test_every_reader_sees_what_was_committed_in_one_order(shared_postgres, anyio_backend_name):
    """Of transactions in several processes, of which a third roll back, each reader sees the rest, each once, whole."""
    if anyio_backend_name != "trio":
        pytest.skip("not applicable: one loop suffices here; the test with faults follows transactions on both")
    program = Path(__file__).parents[2] / "benchmarks" / "postgres_transactions.py"
    options = ["--processes", "2", "--transactions", "60", "--open-for", "0.5", "--loop", anyio_backend_name]
    ran = await anyio.run_process([sys.executable, program, *options, "--url", shared_postgres.url], check=False)
    assert ran.returncode == 0, ran.stderr.decode() + ran.stdout.decode()
    assert json.loads(ran.stdout)["committed"] > 20


async def test_a_group_whose_answer_was_lost_is_appended_once(shared_postgres, name):
    """A group that is sent again after its commit gives the same ids, and changes nothing."""
    store = PostgresStore(shared_postgres.url, name=name)
    async with store:
        appender = opener_of(store)()
        sent = appender.new_group([Append([("a", b"1"), ("a", b"2")], None), Append([("b", b"3")], None)])
        first = appender.append(sent)
        await store.append([("a", b"between")])
        assert appender.append(sent) == first
        assert appender.append(appender.new_group([Append([("a", b"4")], None)]))[0][0].sequence == 5
        appender.close()
        assert len((await store.read(ALL, None)).events) == 5


async def test_a_group_that_was_never_appended_is_appended_by_the_second_try(shared_postgres, name):
    """A group whose first try failed before its commit is appended by the next one."""
    store = PostgresStore(shared_postgres.url, name=name)
    async with store:
        appender = opener_of(store)()
        sent = appender.new_group([Append([("a", b"1")], None)])
        sent.tries = 1
        appender.append(sent)
        appender.close()
        assert plain((await store.read(ALL, None)).events) == [(1, "a", b"1")]


async def test_a_server_that_lost_events_has_a_new_epoch(shared_postgres, name):
    """After a failover that lost acknowledged events no old id fits, and readers get a gap."""
    async with PostgresStore(shared_postgres.url, name=name) as store:
        ids = [(await store.append([("a", b"%d" % n)]))[0] for n in range(5)]
        shared_postgres.sql(
            "DELETE FROM sse_trio.events WHERE id > 2 AND hub = (SELECT id FROM sse_trio.hubs WHERE name = %s)", name
        )
        shared_postgres.sql("UPDATE sse_trio.hubs SET sequence = 2, events = 2 WHERE name = %s", name)
        (new,) = await store.append([("a", b"new")])
        assert new.epoch == store.epoch != ids[0].epoch
        assert (await store.read(ALL, ids[-1])).gap is not None
        shared_postgres.sql("DELETE FROM sse_trio.hubs WHERE name = %s", name)
        assert (await store.read(ALL, new)).gap is not None
        (newest,) = await store.append([("a", b"newest")])
        assert newest.epoch not in {new.epoch, ids[0].epoch}


async def test_terminated_backends_cost_nobody_anything(shared_postgres, name):
    """When an administrator ends all connections, appends, reads and followers go on."""
    async with PostgresStore(shared_postgres.url, name=name) as store, store.follow(EventId(store.epoch, 0)) as pages:
        for n in range(3):
            (id_,) = await store.append([("a", b"%d" % n)])
            with anyio.fail_after(30):
                assert (await anext(pages)).events[-1].id == id_
                shared_postgres.sql(BACKENDS)
                assert (await store.read_last(ALL, 1)).events[0].id == id_


async def test_a_connection_that_ends_while_it_is_listened_to(shared_postgres, name):
    """A follower that waits on a connection which the server ends reads on with another one, at once."""
    async with PostgresStore(shared_postgres.url, name=name, poll_interval=3600) as store:
        follower = store._new_follower()
        (first,) = await store.append([("a", b"1")])
        assert (await follower.wait_page(EventId(store.epoch, 0))).next == first
        listening = follower._listening
        shared_postgres.sql("SELECT pg_terminate_backend(%s, 30000)", listening.info.backend_pid)
        with anyio.fail_after(30):
            while await follower._wait():
                follower._is_told = False  # that wake-up was on its way already
            assert listening.closed
            (second,) = await store.append([("a", b"2")])
            assert (await follower.wait_page(first)).next == second
            async with anyio.create_task_group() as group:
                group.start_soon(store.append, [("a", b"3")])
                assert await follower._wait() is True
        await follower.aclose()


async def test_a_key_that_is_used_twice_in_one_group(shared_postgres, name):
    """Of two appends with one key that are committed together the second one gets the ids of the first."""
    async with PostgresStore(shared_postgres.url, name=name) as store:
        appender = opener_of(store)()
        group = appender.new_group([Append([("a", b"1")], ("me", 1)), Append([("a", b"2")], ("me", 1))])
        first, second = appender.append(group)
        appender.close()
        assert first == second
        assert plain((await store.read(ALL, None)).events) == [(1, "a", b"1")]


async def test_a_crash_keeps_what_was_acknowledged(shared_postgres, name):
    """After a crash and its recovery every acknowledged event is there, under its id."""
    async with PostgresStore(shared_postgres.url, name=name) as store:
        ids = [(await store.append([("a", b"%d" % n)]))[0] for n in range(50)]
        shared_postgres.crash()
        shared_postgres.start()
        ids += await store.append([("a", b"after")])
        assert [event.id for event in (await store.read(ALL, None)).events] == ids


async def test_while_the_server_is_down(shared_postgres, name, caplog):
    """Publishers and readers get an error after `retry_for`; a follower waits, and one line in the log says so."""
    store = PostgresStore(shared_postgres.url, name=name, retry_for=0, poll_interval=0.01)
    async with store, store.follow(EventId(store.epoch, 0)) as pages:
        await store.append([("a", b"1")])
        with anyio.fail_after(60):
            await anext(pages)
            shared_postgres.crash()
            for call in (lambda: store.append([("a", b"2")]), lambda: store.read(ALL, None)):
                with pytest.raises(StoreUnavailableError, match="PostgreSQL at 127.0.0.1"):
                    await call()
            async with anyio.create_task_group() as group:
                group.start_soon(anext, pages)
                while "trying again" not in caplog.text:
                    await anyio.sleep(0.01)
                group.cancel_scope.cancel()
            shared_postgres.start()
            await store.append([("a", b"3")])
            assert (await anext(pages)).events[-1].payload == b"3"
    assert caplog.text.count("trying again") == 1


async def test_an_error_that_no_retry_can_cure_is_told_at_once(shared_postgres, name):
    """Tables that are gone are no outage: the caller gets the error without a wait, and ages are not trimmed."""
    async with PostgresStore(shared_postgres.url, schema=f"d{name}", retry_for=3600, max_age=0.1) as store:
        shared_postgres.sql(f"DROP SCHEMA d{name} CASCADE")
        with anyio.fail_after(30), pytest.raises(StoreUnavailableError, match="does not exist"):
            await store.append([("a", b"")])
        with anyio.fail_after(30), pytest.raises(StoreUnavailableError, match="does not exist"):
            await store.held("r/1")


async def test_a_silent_server_is_noticed(make_proxy, shared_postgres, name):
    """A connection that gives no answer is given up after `reply_within`, and the call is made on another one."""
    proxy = make_proxy(shared_postgres)
    url = f"postgresql://postgres@{proxy.url.removeprefix('redis://')}/postgres"
    async with PostgresStore(url, name=name, reply_within=0.2 * patience(), retry_for=60) as store:
        await store.append([("a", b"1")])
        proxy.mode = "black hole"
        async with anyio.create_task_group() as group:
            group.start_soon(store.append, [("a", b"2")])
            await anyio.sleep(0.1)
            proxy.mode = "pass"  # what was swallowed does not come again
        assert len((await store.read(ALL, None)).events) == 2


async def test_a_connection_without_an_answer_is_closed(make_proxy, shared_postgres):
    """A statement that gets no answer in time leaves no connection behind on which the next one would wait for it."""
    proxy = make_proxy(shared_postgres)
    url = f"postgresql://postgres@{proxy.url.removeprefix('redis://')}/postgres"
    connection = PostgresServer(url, schema="sse_trio", reply_within=30).connect()
    connection.reply_within = 0.05
    proxy.mode = "black hole"
    with pytest.raises(psycopg.OperationalError, match="has not answered within 0.05 s"):
        await anyio.to_thread.run_sync(connection.run, "SELECT 1")
    assert connection.closed


async def test_a_read_that_is_tried_again_does_not_outlive_its_store(make_proxy, shared_postgres, name):
    """A read that waits for its next try when the store closes raises, and makes no connection that nobody closes."""
    proxy = make_proxy(shared_postgres)
    url = f"postgresql://postgres@{proxy.url.removeprefix('redis://')}/postgres"
    store = PostgresStore(url, name=name, retry_for=60)

    async def read():
        with pytest.raises(anyio.ClosedResourceError):
            await store.read(ALL, None)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            async with store:
                proxy.mode = "refuse"
                proxy.cut()
                group.start_soon(read)
                until = proxy.connections + 4
                while proxy.connections < until:
                    await anyio.sleep(0.01)
            connections = proxy.connections
            proxy.mode = "pass"
    assert proxy.connections == connections


async def test_a_lock_that_is_held_too_long_is_an_outage(shared_postgres, name):
    """An append waits for the lock of its hub for `reply_within`, and then its caller hears of it."""
    async with PostgresStore(shared_postgres.url, name=name, reply_within=0.1 * patience(), retry_for=0) as store:
        with psycopg.connect(shared_postgres.url) as holder:
            holder.execute("SELECT FROM sse_trio.hubs WHERE name = %s FOR UPDATE", (name,))
            with pytest.raises(StoreUnavailableError, match="lock timeout"):
                await store.append([("a", b"1")])
    async with PostgresStore(shared_postgres.url, name=name) as store:
        (id_,) = await store.append([("a", b"2")])
        assert id_.sequence == 1


async def test_without_wake_ups_events_are_found_by_looking(shared_postgres, name, monkeypatch, caplog):
    """Without wake-ups a follower finds events by looking, connects anew once, and says once what is wrong."""
    monkeypatch.setattr("sse_trio.stores._postgres.follower.channel_of", lambda schema, hub: "nobody_notifies_this")
    warning = "no wake-ups come from PostgreSQL at"

    def is_done(found):
        return warning in caplog.text and len(found) >= 20

    store = PostgresStore(shared_postgres.url, name=name, poll_interval=0.01)
    found, connections = await follow_by_looking(store, is_done)
    assert found == [*range(1, len(found) + 1)]
    assert len(connections) == 2
    assert caplog.text.count(warning) == 1


# --- what goes with time


async def test_what_is_old_goes(shared_postgres, name, monkeypatch):
    """Maintenance takes events, keys and the ends of topics that are too old or too many."""
    monkeypatch.setattr("sse_trio.stores._postgres.writer.MAX_FORGOTTEN", 1)
    now = 1_000_000.0
    store = PostgresStore(shared_postgres.url, name=name, max_age=1000, clock=lambda: now, remember_keys=2000)
    async with store:
        appender = opener_of(store)()
        for topic in ("a", "b", "c"):
            await store.append([(topic, b"old")], key=(topic, 1))
        now += 999
        await store.append([("d", b"new")])
        appender.maintain()
        assert len((await store.read(ALL, None)).events) == 4
        now += 2
        appender.maintain()
        assert [event.topic for event in (await store.read(ALL, None)).events] == ["d"]
        for topic in ("a", "c", "never"):
            assert (await store.read(TopicFilter(topic), EventId(store.epoch, 0))).gap is not None
        (again,) = await store.append([("a", b"x")], key=("a", 1))
        assert again.sequence == 1
        now += 1000
        appender.maintain()
        (again,) = await store.append([("a", b"x")], key=("a", 1))
        assert again.sequence > 4
        appender.close()


async def test_many_go_at_once(shared_postgres, name):
    """More events than one query looks at can go in one commit, those of held topics to where they stay."""
    from sse_trio.stores import Claim

    async with PostgresStore(shared_postgres.url, name=name, max_events=2000) as big:
        await big.append_held([("r/1", b"kept")], Claim("r/1", None, "t", b"v", 60.0, clear=True))
        await big.append([("a", b"%d" % n) for n in range(1500)])
    async with PostgresStore(shared_postgres.url, name=name, max_events=3, per_topic=Retention()) as small:
        await small.append([("a", b"last")])
        found = (await small.read(ALL, None)).events
        assert [event.payload for event in found] == [b"1498", b"1499", b"last"]
        assert plain((await small.read(TopicFilter("r/*", "r/1"), None)).events) == []
        assert [event.payload for event in (await small.read(TopicFilter("r/1"), None)).events] == [b"kept"]
