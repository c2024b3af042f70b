# A Publisher where another server may become the primary: Sentinel, Cluster; credentials and replicas.

from __future__ import annotations

import math
import time

import anyio
import pytest

from sse_trio import StoreUnavailableError
from sse_trio.publisher import Publisher
from sse_trio.stores import Retention, TopicFilter
from sse_trio.stores._topic_limits import TopicLimits

from ..stores._sentinel import BAD_CREDENTIALS, Pair, make_cluster, move_slot

redis = pytest.importorskip("redis", reason="redis-py is not installed")
RedisStore = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed").RedisStore
PrimaryClient = pytest.importorskip("sse_trio.publisher._redis_clients").PrimaryClient
RedisCalls = pytest.importorskip("sse_trio.stores._redis.calls").RedisCalls
parse_redis_url = pytest.importorskip("sse_trio.stores._redis.url").parse_redis_url
pytestmark = pytest.mark.usefixtures("forgive_coredis")


def open_publisher(url, **options):
    return Publisher(url, name="h", **{"reply_within": 2.0, "retry_for": 30.0, **options})


def sequences(*ids):
    return [id_.sequence for id_ in ids]


def refuse(url, why):
    """Publish to what can't be published to."""
    with open_publisher(url, retry_for=0.0) as publisher, pytest.raises(StoreUnavailableError, match=why):
        publisher.publish("a", "1")


def kept(url):
    """Return the data of all events of the hub."""

    async def read():
        async with RedisStore(url, name="h") as store:
            return [event.event.data for event in (await store.read(TopicFilter("*"), None)).events]

    return anyio.run(read)


def test_it_goes_on_with_the_new_primary(make_pair):
    """A publish while there is no primary waits for the next one, in a new epoch, and ids from before go on."""
    pair = make_pair()
    with open_publisher(pair.url) as publisher:
        first = publisher.publish("a", "1")
        pair.wait_replicated(1)
        pair.fail_over()
        second = publisher.publish("a", "2")
    assert sequences(first, second) == [1, 2]
    assert first.epoch != second.epoch
    assert kept(pair.url) == ["1", "2"]


def test_a_loss_is_logged(make_pair, caplog):
    """Whoever was given an id for an event that a failover has lost is told in the log."""
    pair = make_pair()
    with open_publisher(pair.url) as publisher:
        publisher.publish("a", "1")
        pair.wait_replicated(1)
        pair.part()
        lost = publisher.publish("a", "lost")
        pair.fail_over()
        publisher.publish("a", "2")
    assert [message.rpartition(" ")[2] for message in caplog.messages if "has lost" in message] == [str(lost)]
    assert kept(pair.url) == ["1", "2"]


def test_a_former_primary_that_is_back_is_not_used(make_pair):
    """A connection that is lost is not replaced by one to a server that was the primary, and believes that it is."""
    pair = make_pair()
    with open_publisher(pair.url, reply_within=30.0) as publisher:
        publisher.publish("a", "1")
        pair.wait_replicated(1)
        pair.primary.restart()
        publisher.publish("a", "2")  # to the same, which is the primary still
        pair.wait_replicated(2)
        pair.fail_over()
        pair.primary.start()
        publisher.publish("a", "3")
    assert kept(pair.url) == ["1", "2", "3"]
    assert b"$1\r\n2\r\n" in pair.primary.command("HGET", "{h}:meta", "seq")


def test_a_new_connection_looks_for_the_primary(make_pair):
    """redis-py connects anew by itself: to the same server, which is refused if it is the primary no more."""
    pair = make_pair()
    calls = RedisCalls("h", Retention(), TopicLimits(Retention(), Retention()), time.time)
    client = PrimaryClient(parse_redis_url(pair.url), {}, {}, calls, check_after=math.inf)
    client.get().ping()
    pair.primary.restart()
    client.get().ping()
    pair.fail_over()
    pair.primary.start()
    with pytest.raises(redis.ConnectionError, match="another server is the primary now"):
        client.get().ping()
    client.close()


def test_a_primary_that_was_replaced_is_left_though_it_answers(make_pair):
    """After a pause the sentinels are asked again; one that names the same primary changes nothing."""
    pair = make_pair()
    with open_publisher(pair.url, reply_within=0.1) as publisher:
        publisher.publish("a", "1")
        time.sleep(0.15)
        publisher.publish("a", "2")
        pair.wait_replicated(2)
        pair.fail_over(kill=False)
        time.sleep(0.15)
        publisher.publish("a", "3")
    assert kept(pair.url) == ["1", "2", "3"]


def test_without_sentinels_the_primary_that_is_known_goes_on(make_pair):
    """Sentinels that are down take nothing from a publisher that has found its primary; a new one says so."""
    pair = make_pair()
    with open_publisher(pair.url) as publisher:
        publisher.publish("a", "1")
        pair.sentinel.kill()
        time.sleep(1.1)  # longer than it believes what it was told
        assert publisher.publish("a", "2").sequence == 2
    with open_publisher(pair.url, retry_for=0.0) as late, pytest.raises(StoreUnavailableError):
        late.publish("a", "3")


def test_what_is_not_a_primary_is_not_used(make_pair):
    """A replica that a sentinel names, or a service that it doesn't know, is an error that says which."""
    pair = make_pair()
    pair.sentinel.name(pair.replica)
    refuse(pair.url, "slave, and not a primary")
    refuse(pair.url.replace("/hub", "/nix"), "doesn't know the service 'nix'")


def test_replicas_that_are_waited_for(make_pair):
    """With `wait_replicas`, a publish returns when they have the event, and fails if they don't."""
    pair = make_pair()
    with open_publisher(pair.url, wait_replicas=1, reply_within=0.5, retry_for=0.2) as publisher:
        publisher.publish("a", "1")
        assert b"$1\r\n1\r\n" in pair.replica.command("HGET", "{h}:meta", "seq")
        pair.part()
        with pytest.raises(StoreUnavailableError, match="0 of 1 replicas"):
            publisher.publish("a", "2")
    assert kept(pair.url) == ["1", "2"]


def test_sentinels_that_want_a_password(make_pair):
    """Sentinels have users of their own, so they have credentials of their own."""
    pair = make_pair()
    assert pair.sentinel.command("ACL", "SETUSER", "default", "resetpass", ">secret") == b"+OK\r\n"
    refuse(pair.url, "Authentication required")
    with open_publisher(pair.url, sentinel_credentials=lambda: (None, "secret")) as publisher:
        publisher.publish("a", "1")
    with pytest.raises(ValueError, match="sentinel_credentials must be None without sentinels"):
        Publisher(pair.primary.url, sentinel_credentials=lambda: (None, "secret"))
    with pytest.raises(TypeError, match="sentinel_credentials must be an ordinary function"):
        Publisher(pair.url, sentinel_credentials="secret")


def test_credentials_that_fail(make_pair):
    """The error names the argument whose function failed and what to return, and quotes no password."""
    pair = make_pair()
    for name in ("credentials", "sentinel_credentials"):
        for function, message in BAD_CREDENTIALS:
            with open_publisher(pair.url, retry_for=0.0, **{name: function}) as publisher:
                with pytest.raises(StoreUnavailableError, match=rf" {name}{message}") as caught:
                    publisher.publish("a", "1")
                assert "secret" not in str(caught.value)


@pytest.mark.parametrize("user", ["app", None])
def test_credentials_are_asked_for_at_each_connection(make_pair, user):
    """A password may be a token that expires; the sentinels don't get it. A function that fails is asked again."""
    pair = make_pair()
    for server in (pair.primary, pair.replica):
        server.command("ACL", "SETUSER", user or "default", "on", ">token", "~*", "&*", "+@all")
    answers = iter([OSError("no token now"), *[None] * 99])

    def credentials():
        if (error := next(answers)) is not None:
            raise error
        return user, "token"

    with open_publisher(pair.url, credentials=credentials, retry_for=0.0) as publisher:
        with pytest.raises(StoreUnavailableError, match="no token now"):
            publisher.publish("a", "1")
        assert publisher.publish("a", "1").sequence == 1

    async def later():
        return None, "token"

    with pytest.raises(TypeError, match="credentials must be an ordinary function"):
        Publisher(pair.url, credentials=later)


def test_a_slot_of_a_cluster_that_moves(make_redis):
    """In a cluster a publisher finds the node of the hub's slot, and goes on when it moves."""
    lonely = make_redis("--cluster-enabled", "yes", "--cluster-config-file", "lonely.conf")
    refuse(f"cluster://127.0.0.1:{lonely.port}", "no node of the cluster has the slot")
    nodes = [make_redis("--cluster-enabled", "yes", "--cluster-config-file", f"{n}.conf") for n in "ab"]
    make_cluster(nodes)
    url = f"cluster://127.0.0.1:1,127.0.0.1:{nodes[1].port}"
    with open_publisher(url) as publisher:
        ids = [publisher.publish("a", "1")]
        move_slot("{h}:meta", *nodes)
        ids.append(publisher.publish("a", "2"))
    assert sequences(*ids) == [1, 2]
    assert kept(url) == ["1", "2"]


def test_two_failovers(make_pair):
    """A publisher goes back to the first server, too, when that is the primary again."""
    pair = make_pair()
    with open_publisher(pair.url) as publisher:
        publisher.publish("a", "1")
        pair.wait_replicated(1)
        pair.fail_over()
        publisher.publish("a", "2")
        pair.primary.start()
        again = Pair(pair.replica, pair.primary, pair.sentinel)
        again.wait_replicated(2)
        again.fail_over()
        assert publisher.publish("a", "3").sequence == 3
    assert kept(pair.url) == ["1", "2", "3"]
