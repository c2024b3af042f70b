# RedisStore and Publisher where another server may become the primary: Sentinel, Cluster; and what a failover loses.

from __future__ import annotations

import re
import secrets
import sys

import anyio
import pytest

from sse_trio._errors import StoreUnavailableError
from sse_trio.stores import EventId, TopicFilter
from sse_trio.stores._append import Append

from ._sentinel import BAD_CREDENTIALS, Pair, SlotMove, make_cluster, move_slot

RedisStore = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed").RedisStore
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock", "forgive_coredis")]
if sys.platform == "win32":
    pytest.skip("not applicable: there is no redis-server", allow_module_level=True)
ALL = TopicFilter("*")


def open_store(url, **options):
    return RedisStore(url, name="h", **{"reply_within": 2.0, **options})


async def fill(store, *payloads, key=None):
    return await store.append([("a", payload) for payload in payloads], key=key)


async def read(store, after):
    page = await store.read(ALL, after)
    return page.gap, [event.payload for event in page.events]


async def test_streams_go_on_with_the_new_primary(make_pair):
    """After a failover that lost nothing, publishers and followers go on by themselves, and nobody gets a gap."""
    pair = make_pair()
    async with open_store(pair.url) as store, store.follow(EventId(store.epoch, 0)) as pages:
        ids = await fill(store, b"0", b"1")
        pair.wait_replicated(2)
        pair.fail_over()
        with anyio.fail_after(60):
            (new,) = await fill(store, b"2")
            got = []
            while len(got) < 3:
                page = await anext(pages)
                assert page.gap is None
                got += [event.payload for event in page.events]
        assert got == [b"0", b"1", b"2"]
        assert new.sequence == 3
        assert new.epoch != ids[0].epoch
        assert [await read(store, id_) for id_ in (*ids, new)] == [(None, [b"1", b"2"]), (None, [b"2"]), (None, [])]


async def test_who_has_seen_what_a_failover_lost_gets_a_gap_and_nobody_else(make_pair):
    """No id is given twice, and a gap is told exactly to the readers that have seen something that is gone."""
    pair = make_pair()
    async with open_store(pair.url) as store:
        kept = await fill(store, b"0", b"1")
        pair.wait_replicated(2)
        pair.part()
        lost = await fill(store, b"lost", b"lost too")
        pair.fail_over()
        async with open_store(pair.url) as other:  # it knows nothing of them, and gives their numbers again
            news = await fill(other, b"2", b"3", b"4")
        assert not {*kept, *lost} & {*news}
        assert [await read(store, id_) for id_ in kept] == [
            (None, [b"1", b"2", b"3", b"4"]),
            (None, [b"2", b"3", b"4"]),
        ]
        for id_ in lost:
            gap, payloads = await read(store, id_)
            assert gap == (id_, EventId(news[0].epoch, 1))
            assert payloads == [b"0", b"1", b"2", b"3", b"4"]


async def test_who_has_published_what_a_failover_lost_is_told(make_pair, caplog):
    """A process that was given an id for an event that is gone logs a warning, once; others have nothing to say."""
    pair = make_pair()
    async with open_store(pair.url) as store, open_store(pair.url) as other:
        await fill(other, b"0")
        pair.wait_replicated(1)
        pair.part()
        (lost,) = await fill(store, b"lost")
        pair.fail_over()
        with anyio.fail_after(60):
            await fill(store, b"1")
            await fill(other, b"2")
            assert await read(store, None) == (None, [b"0", b"1", b"2"])
    warnings = [message for message in caplog.messages if "has lost" in message]
    assert warnings == [
        f"a failover of Redis has lost events that hub h acknowledged to this process; the newest is {lost}"
    ]


async def test_two_failovers(make_pair):
    """An id is good up to where each of the later histories went on."""
    pair = make_pair()
    async with open_store(pair.url) as store:
        first = await fill(store, b"0", b"1", b"2")
        pair.wait_replicated(3)
        pair.fail_over()
        await fill(store, b"3")
        pair.primary.start()
        again = Pair(pair.replica, pair.primary, pair.sentinel)
        again.wait_replicated(4)
        again.part()
        lost = await fill(store, b"lost")
        again.fail_over()
        (new,) = await fill(store, b"4")
        assert new.sequence == 5
        assert await read(store, first[-1]) == (None, [b"3", b"4"])
        assert (await read(store, lost[0]))[0] is not None


async def test_a_call_that_is_sent_again_after_a_failover_is_made_once(make_pair):
    """A group that the replica has, and an append with a key, are not appended again there."""
    pair = make_pair()
    async with open_store(pair.url) as store:
        before = await fill(store, b"0", key=("p", 1))
        pair.wait_replicated(1)
        pair.fail_over()
        group = [Append([("a", b"0")], ("p", 1))]
        ((again,),) = await store._writer.call(lambda client: store._log.append(client, group, 1))
        assert again.sequence == before[0].sequence
        assert [id_.sequence for id_ in await fill(store, b"0", key=("p", 1))] == [1]
        assert await read(store, None) == (None, [b"0"])


async def test_a_primary_that_was_replaced_is_left_though_it_answers(make_pair):
    """A store that is cut off with the old primary asks the sentinels again, and goes on with the new one."""
    pair = make_pair()
    async with open_store(pair.url, reply_within=0.3) as store, store.follow(EventId(store.epoch, 0)) as pages:
        await fill(store, b"0")
        assert [event.payload for event in (await anext(pages)).events] == [b"0"]
        pair.wait_replicated(1)
        pair.fail_over(kill=False)
        async with open_store(pair.url) as other:
            await fill(other, b"1")
        with anyio.fail_after(60):
            assert [event.payload for event in (await anext(pages)).events] == [b"1"]
            await fill(store, b"2")  # idle for longer than it believes what it was told
            assert [event.payload for event in (await anext(pages)).events] == [b"2"]
        assert b"$1\r\n1\r\n" in pair.primary.command("HGET", "{h}:meta", "seq")


async def test_a_primary_that_may_not_be_asked_which_it_is_is_not_used(make_pair):
    """Where the primary can change, a user without INFO is told so: a loss would go unnoticed."""
    pair = make_pair()
    for server in (pair.primary, pair.replica):
        assert server.command("ACL SETUSER default -info").startswith(b"+OK")
    with pytest.raises(StoreUnavailableError, match="info"):
        async with open_store(pair.url):
            raise AssertionError("it was opened")


async def test_a_former_primary_that_is_back_is_not_used(make_pair):
    """An idle connection to a primary that was killed and is back, empty or old, is not replaced by one to the same."""
    pair = make_pair()
    async with open_store(pair.url, reply_within=30.0) as store:
        (id_,) = await fill(store, b"0")
        assert await read(store, id_) == (None, [])
        pair.wait_replicated(1)
        pair.fail_over()
        pair.primary.start()
        await anyio.sleep(0.05)  # in which the client is told of the end of its connections
        with anyio.fail_after(60):
            assert await read(store, id_) == (None, [])
            await fill(store, b"1")
            assert await read(store, None) == (None, [b"0", b"1"])
        assert b"$1\r\n1\r\n" in pair.primary.command("HGET", "{h}:meta", "seq")


async def test_replicas_that_are_waited_for(make_pair):
    """With `wait_replicas`, an append returns when they have it, and fails if they don't; then it may exist, once."""
    pair = make_pair()
    async with open_store(pair.url, wait_replicas=1, retry_for=0.5, reply_within=0.5) as store:
        await fill(store, b"0")
        assert b"$1\r\n1\r\n" in pair.replica.command("HGET", "{h}:meta", "seq")
        pair.part()
        with anyio.fail_after(60), pytest.raises(StoreUnavailableError, match="replica"):
            await fill(store, b"1")
        assert await read(store, None) == (None, [b"0", b"1"])


async def test_sentinels_are_asked_in_order(make_pair):
    """A sentinel that is gone is passed over. If none knows a primary, the store says so when it is opened."""
    pair = make_pair()
    port = pair.sentinel.port
    async with open_store(f"sentinel://127.0.0.1:1,127.0.0.1:{port}/hub") as store:
        await fill(store, b"0")
    with pytest.raises(StoreUnavailableError, match="doesn't know the service 'nix'"):
        async with open_store(f"sentinel://127.0.0.1:{port}/nix"):
            pass
    pair.sentinel.name(pair.replica)  # which is one still
    with pytest.raises(StoreUnavailableError, match="slave, and not a primary"):
        async with open_store(pair.url):
            pass


async def test_sentinels_that_want_a_password(make_pair):
    """Sentinels have users of their own, so they have credentials of their own."""
    pair = make_pair()
    assert pair.sentinel.command("ACL", "SETUSER", "default", "resetpass", ">secret") == b"+OK\r\n"
    with pytest.raises(StoreUnavailableError, match="HELLO must be called with the client already authenticated"):
        async with open_store(pair.url):
            pass
    async with open_store(pair.url, sentinel_credentials=lambda: (None, "secret")) as store:
        await fill(store, b"0")
        assert await read(store, None) == (None, [b"0"])


@pytest.mark.parametrize("name", ["credentials", "sentinel_credentials"])
@pytest.mark.parametrize(("function", "message"), BAD_CREDENTIALS, ids=range(len(BAD_CREDENTIALS)))
async def test_credentials_that_fail(name, function, message):
    """The error names the argument whose function failed and what to return, and quotes no password."""
    url = "redis://127.0.0.1:1" if name == "credentials" else "sentinel://127.0.0.1:1/primary"
    with pytest.raises(StoreUnavailableError, match=rf" {name}{message}") as caught:
        async with open_store(url, **{name: function}):
            pass
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://localhost", "cluster://localhost"])
async def test_credentials_for_sentinels_need_sentinels(url):
    """Without sentinels nobody would be asked for them: an error says what to write."""
    with pytest.raises(ValueError, match="sentinel_credentials must be None without sentinels"):
        open_store(url, sentinel_credentials=lambda: (None, "secret"))
    with pytest.raises(TypeError, match="sentinel_credentials must be a function"):
        open_store(url, sentinel_credentials=("user", "secret"))


async def test_credentials_are_asked_for_at_each_connection(make_redis):
    """A password may be a token that expires: the function is called for each connection, and again if it fails."""
    server = make_redis()
    tokens = ["one"]
    server.command("ACL", "SETUSER", "app", "on", ">one", "~*", "+@all")
    answers = iter([OSError("no token now"), *[None] * 99])

    async def credentials():
        if (error := next(answers)) is not None:
            raise error
        return "app", tokens[0]

    async with open_store(server.url, credentials=lambda: ("app", tokens[0])) as store:
        await fill(store, b"0")
        server.command("ACL", "SETUSER", "app", "resetpass", ">two")
        tokens[0] = "two"
        server.command("CLIENT", "KILL", "USER", "app")
        with anyio.fail_after(60):
            await fill(store, b"1")
    with pytest.raises(StoreUnavailableError, match="no token now"):
        async with open_store(server.url, credentials=credentials):
            pass
    async with open_store(server.url, credentials=credentials) as store:
        assert await read(store, None) == (None, [b"0", b"1"])


def make_nodes(make_redis):
    """Make a cluster of two nodes; the first has all slots."""
    files = [f"{n}-{secrets.token_hex(4)}.conf" for n in "ab"]
    nodes = [make_redis("--cluster-enabled", "yes", "--cluster-config-file", file) for file in files]
    make_cluster(nodes)
    return nodes


async def test_a_slot_that_is_moved_key_by_key(make_redis):
    """While some of a hub's keys are on the next node, nothing is written in part: it waits, and nothing is lost."""
    nodes = make_nodes(make_redis)
    url = f"cluster://127.0.0.1:{nodes[0].port}"
    async with open_store(url) as store, open_store(url, retry_for=0.0) as hasty:
        ids = await fill(hasty, b"0", key=("p", 1))
        move = SlotMove("{h}:meta", *nodes)
        for key in sorted(move.keys(), key=lambda key: ":topic:" not in key):  # which is written after the log
            with pytest.raises(StoreUnavailableError):
                await fill(hasty, b"never")
            move.move_keys(key)
        with pytest.raises(StoreUnavailableError):
            await fill(hasty, b"never")
        move.finish()
        with anyio.fail_after(60):
            again = await fill(store, b"0", key=("p", 1))
            assert [id_.sequence for id_ in again] == [id_.sequence for id_ in ids]
            assert await read(store, ids[0]) == (None, [])
            assert [id_.sequence for id_ in await fill(store, b"1")] == [2]
            assert await read(store, None) == (None, [b"0", b"1"])


async def test_a_slot_of_a_cluster_that_moves(make_redis):
    """In a cluster, store, follower and Publisher find the node of the hub's slot, and go on when the slot moves."""
    nodes = make_nodes(make_redis)
    url = f"cluster://127.0.0.1:1,127.0.0.1:{nodes[1].port}"
    async with open_store(url) as store, store.follow(EventId(store.epoch, 0)) as pages:
        ids = await fill(store, b"0")
        assert [event.payload for event in (await anext(pages)).events] == [b"0"]
        move_slot("{h}:meta", *nodes)
        with anyio.fail_after(60):
            await fill(store, b"1")
            page = await anext(pages)
        assert (page.gap, [event.payload for event in page.events]) == (None, [b"1"])
        assert await read(store, ids[0]) == (None, [b"1"])
        assert words_in(nodes[1]) == b"$1\r\n2\r\n"


def words_in(node):
    return node.command("HGET", "{h}:meta", "seq")


async def test_a_cluster_without_an_owner_of_the_slot(make_redis):
    """If no node has the hub's slot, the store says so when it is opened."""
    node = make_redis("--cluster-enabled", "yes", "--cluster-config-file", "lonely.conf")
    with pytest.raises(StoreUnavailableError, match="no node of the cluster has the slot"):
        async with open_store(f"cluster://127.0.0.1:{node.port}"):
            pass


async def test_a_follower_that_waits_for_long_asks_again(make_redis):
    """Where nothing is published, a follower asks the server itself now and then, and goes on."""
    server = make_redis()
    async with open_store(server.url, reply_within=0.5) as store, store.follow(EventId(store.epoch, 0)) as pages:
        while int(re.search(rb"cmdstat_xread:calls=(\d+)|$", server.command("INFO", "commandstats"))[1] or 0) < 3:
            await anyio.sleep(0.02)
        await fill(store, b"0")
        with anyio.fail_after(60):
            assert [event.payload for event in (await anext(pages)).events] == [b"0"]


async def test_without_sentinels_the_primary_that_is_known_goes_on(make_pair):
    """Sentinels that are down take nothing from a store that has found its primary."""
    pair = make_pair()
    async with open_store(pair.url) as store:
        await fill(store, b"0")
        pair.sentinel.kill()
        await anyio.sleep(1.1)  # longer than it believes what it was told
        await fill(store, b"1")
        assert await read(store, None) == (None, [b"0", b"1"])


async def test_a_look_for_the_primary_asks_for_no_credentials(make_pair):
    """Sentinels are asked again after each pause, and that costs no new token: they don't get it."""
    pair = make_pair()
    asked = []

    def credentials():
        asked.append(None)
        return "default", "any"  # which a user without a password takes

    async with open_store(pair.url, reply_within=1.0, credentials=credentials) as store:
        await fill(store, b"0")
        before = len(asked)
        await anyio.sleep(1.2)
        await fill(store, b"1")
        assert len(asked) == before
