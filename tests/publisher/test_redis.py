"""Publishing to a Redis that fails, as redis-py does it."""

from __future__ import annotations

import secrets
import threading
import time

import anyio
import pytest

from sse_trio import StoreUnavailableError
from sse_trio.publisher import Publisher
from sse_trio.testing._store_locations import ALL, read_all

redis = pytest.importorskip("redis", reason="redis-py is not installed")
stores_redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
tell_hub = pytest.importorskip("sse_trio.publisher._redis_clients").tell_hub

pytestmark = pytest.mark.usefixtures("forgive_coredis")


@pytest.fixture
def name():
    return secrets.token_hex(4)


def data_of(url, name):
    async def read():
        async with stores_redis.RedisStore(url, name=name) as store:
            events, _ = await read_all(store, ALL, None, limit=5000)
        return [event.event.data for event in events]

    return anyio.run(read)


def later(seconds, do):
    timer = threading.Timer(seconds, do)
    timer.start()
    return timer


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_delays_a_publish(make_redis, name):
    """An event that is published while the server is down is kept once it is there again, once."""
    server = make_redis()
    with Publisher(server.url, name=name, retry_for=20) as publisher:
        publisher.publish("a", "before")
        server.kill()
        timer = later(0.3, server.start)
        publisher.publish("a", "while")
        timer.join()
        assert data_of(server.url, name) == ["before", "while"]


@pytest.mark.slow
def test_a_lost_answer_doubles_nothing(shared_redis, make_proxy, name):
    """An event whose acknowledgement was lost on the way is sent again, and kept once."""
    proxy = make_proxy(shared_redis)
    with Publisher(proxy.url, name=name, retry_for=20, reply_within=0.2) as publisher:
        first = publisher.publish("a", "1")
        proxy.mode = "lose replies"
        timer = later(0.5, lambda: setattr(proxy, "mode", "pass"))
        second = publisher.publish("a", "2")
        timer.join()
    assert data_of(shared_redis.url, name) == ["1", "2"]
    assert second.sequence == first.sequence + 1


def test_a_server_that_is_down_is_an_error_in_the_time_given(name):
    """Without a server, publishing raises StoreUnavailableError after `retry_for` seconds, and shows no password."""
    with Publisher("redis://ann:secret@127.0.0.1:1", name=name, retry_for=0.05) as publisher:
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="Redis at 127.0.0.1:1 is not available") as caught:
            publisher.publish("a", "x")
        assert time.monotonic() - began < 5
        assert isinstance(caught.value.__cause__, redis.ConnectionError)
        assert "secret" not in f"{caught.value}{publisher!r}"


def test_a_server_that_forgot_its_scripts(shared_redis, name):
    """After SCRIPT FLUSH the script is sent in full again."""
    with Publisher(shared_redis.url, name=name) as publisher:
        publisher.publish("a", "1")
        shared_redis.command("SCRIPT", "FLUSH")
        publisher.publish("a", "2")
    assert data_of(shared_redis.url, name) == ["1", "2"]


def test_a_client_of_the_user_s_own(shared_redis, name):
    """A redis.Redis is taken as it is, for what a URL can't say; one that decodes answers is refused at once."""
    client = redis.Redis.from_url(shared_redis.url)
    with Publisher(client, name=name) as publisher:
        publisher.publish("a", "x")
        publisher.publish("a", "y")
        assert repr(publisher) == "<Publisher to Redis: open>"
    assert data_of(shared_redis.url, name) == ["x", "y"]
    with pytest.raises(ValueError, match="without decode_responses"):
        Publisher(redis.Redis.from_url(shared_redis.url, decode_responses=True))


@pytest.mark.parametrize("is_own", [False, True])
def test_a_server_that_comes_back_with_less_gives_no_id_twice(make_redis, name, is_own):
    """A publisher whose server has lost events, by a restart or a failover behind its name, gives none of their ids."""
    server = make_redis("--appendonly", "no")
    client = redis.Redis.from_url(server.url) if is_own else server.url
    with Publisher(client, name=name, reply_within=0.001 if is_own else 5.0) as publisher:  # looks again after that
        kept = publisher.publish("a", "kept")
        server.command("SAVE")
        with Publisher(server.url, name=name) as other:
            lost = [other.publish("a", "lost") for _ in range(2)]
        server.restart()
        new = [publisher.publish("a", "new") for _ in range(3)]
    assert [id_.sequence for id_ in (kept, *lost, *new)] == [1, 2, 3, 2, 3, 4]
    assert len({kept, *lost, *new}) == 6
    assert data_of(server.url, name) == ["kept", "new", "new", "new"]


def test_a_user_without_info_publishes(make_redis, name):
    """A server that may not be asked which one it is, is believed to keep what it has, also by one's own client."""
    server = make_redis()
    assert server.command("ACL SETUSER app on >x ~* &* +@all -info").startswith(b"+OK")
    url = server.url.replace("//", "//app:x@")
    for store in (url, redis.Redis.from_url(url)):
        with Publisher(store, name=name) as publisher:
            publisher.publish("a", "x")
    assert data_of(server.url, name) == ["x", "x"]


def test_a_server_that_shows_no_replication_id():
    """A server that only resembles Redis, and has no replication id, is believed to keep what it has."""
    tell_hub(None, lambda *words: {"role": "master"})


def test_a_unix_socket(make_redis, tmp_path_factory, name):
    """unix:///path is the server behind that socket."""
    path = tmp_path_factory.mktemp("s") / "redis.sock"
    server = make_redis("--unixsocket", str(path))
    with Publisher(f"unix://{path}", name=name) as publisher:
        publisher.publish("a", "x")
    assert data_of(server.url, name) == ["x"]


def test_tls_is_verified():
    """With rediss:// the server's certificate and its name are verified."""
    from sse_trio.publisher._redis import _location, _options
    from sse_trio.stores._redis.url import parse_redis_url

    address = parse_redis_url("rediss://example.org:1/")
    client = redis.Redis(**_location(address), **_options(address, 5.0, {}))
    options = client.connection_pool.connection_kwargs
    assert client.connection_pool.connection_class is redis.SSLConnection
    assert (options["ssl_cert_reqs"], options["ssl_check_hostname"]) == ("required", True)


def test_the_rights_of_a_store_are_enough(each_server, name):
    """A user with the commands that docs/stores.md lists, for the keys of its hub, publishes."""
    from ..stores.test_redis_rights import make_user

    with Publisher(make_user(each_server, name), name=name, retry_for=0) as publisher:
        publisher.publish("a", "x", key=("p", 1))
    assert data_of(each_server.url, name) == ["x"]


def test_a_key_is_remembered_as_long_as_it_says(shared_redis, name):
    """A key lasts for `remember_keys`; a group that is sent again is known for ten minutes anyway."""
    client = redis.Redis.from_url(shared_redis.url)
    for seconds in (1200, 1.5):
        with Publisher(shared_redis.url, name=name, remember_keys=seconds) as publisher:
            publisher.publish("a", "x", key=f"for-{seconds}")
    assert 1190 < client.ttl(f"{{{name}}}:key:\0for-1200:0") <= 1200
    assert client.ttl(f"{{{name}}}:key:\0for-1.5:0") <= 2
    assert all(client.ttl(writer) > 590 for writer in client.keys(f"{{{name}}}:writer:*"))


def test_a_failure_leaves_the_users_other_connections_alone(shared_redis, name):
    """A `redis.Redis` of the user's own may be in use by other threads: a publish that fails closes none of theirs."""
    client = redis.Redis(port=shared_redis.port)
    pubsub = client.pubsub()
    pubsub.subscribe("something of the user's")
    socket = pubsub.connection._sock
    with Publisher(client, name=name, retry_for=0.0) as publisher:
        shared_redis.command("SET", f"{{{name}}}:meta", "nonsense")  # so that the script fails
        with pytest.raises(StoreUnavailableError):
            publisher.publish("a", "x")
        assert pubsub.connection._sock is socket is not None
    pubsub.close()
    client.close()
