# RedisStore: the conformance kit on Redis and Valkey, and what is its own: URLs, TLS, keys, scripts.

from __future__ import annotations

import ssl

import anyio
import pytest
import trustme
from anyio.streams.tls import TLSListener

from sse_trio._errors import StoreUnavailableError
from sse_trio.stores import EventId, Retention, TopicFilter
from sse_trio.testing._check_store import check_event_store
from sse_trio.testing._store_locations import ALL, plain, read_all

redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
RedisStore = redis.RedisStore

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("real_clock", "forgive_coredis"),
]


@pytest.mark.untraced
async def test_conformance(each_server, name):
    """RedisStore keeps every promise of the protocol, on Redis and on Valkey."""

    def make(place, hub, topic):
        limits = {"max_events": hub.max_events, "max_age": hub.max_age, "max_bytes": hub.max_bytes}
        return RedisStore(each_server.url, name=f"{name}-{place}", **limits, per_topic=topic)

    await check_event_store(make, make_by_prefix=make)


async def test_all_keys_of_a_hub_have_its_tag(make_redis):
    """A cluster keeps all keys of a hub on one node, and two hubs in one server don't meet."""
    server = make_redis()
    async with RedisStore(server.url, name="one") as one, RedisStore(server.url, name="two") as two:
        await one.append([("a", b"1")], key=("p", 1))
        assert (await two.read(ALL, None)).events == ()
        keys = [line for line in server.command("KEYS", "*").split(b"\r\n") if line.startswith(b"{")]
    assert len([key for key in keys if key.startswith(b"{one}:")]) >= 5
    assert all(key.startswith((b"{one}:", b"{two}:")) for key in keys)


async def test_password_and_database_of_the_url(make_redis, name):
    """User, password (percent-encoded) and database number come from the URL; a wrong password fails the start."""
    server = make_redis("--requirepass", "p@ss/word")
    at = server.url.removeprefix("redis://")
    async with RedisStore(f"redis://default:p%40ss%2Fword@{at}/3", name=name) as store:
        await store.append([("a", b"")])
    async with RedisStore(f"redis://:p%40ss%2Fword@{at}/3", name=name) as store:
        assert len((await store.read(ALL, None)).events) == 1
    async with RedisStore(f"redis://:p%40ss%2Fword@{at}/4", name=name) as store:
        assert len((await store.read(ALL, None)).events) == 0
    with pytest.raises(StoreUnavailableError) as caught:
        async with RedisStore(f"redis://:wrong@{at}", name=name):
            pass
    assert "wrong" not in str(caught.value)


async def test_a_unix_socket(make_redis, tmp_path_factory, name):
    """The store can reach a server through a unix socket."""
    path = tmp_path_factory.mktemp("s") / "s"
    make_redis("--unixsocket", str(path))
    async with RedisStore(f"unix://{path}", name=name) as store:
        (id_,) = await store.append([("a", b"")])
        assert (await store.read_last(ALL, 1)).tip == id_


async def test_tls_verifies_the_server(shared_redis, name):
    """`rediss://` speaks TLS, and only to a server that proves its name."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    async def serve(stream):
        server = await anyio.connect_tcp("127.0.0.1", shared_redis.port)
        async with stream, server, anyio.create_task_group() as group:
            group.start_soon(copy, stream, server, group.cancel_scope)
            group.start_soon(copy, server, stream, group.cancel_scope)

    async def copy(source, target, scope):
        try:
            async for data in source:
                await target.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        scope.cancel()

    async def handshake_failed(_exc, stream):
        await anyio.aclose_forcefully(stream)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    tls = TLSListener(listener, server_context, standard_compatible=False)
    tls.handle_handshake_error = handshake_failed
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with anyio.create_task_group() as group:
        group.start_soon(tls.serve, serve)
        async with RedisStore(f"rediss://localhost:{port}", name=name, ssl_context=client_context) as store:
            (id_,) = await store.append([("a", b"")])
            assert (await store.read_last(ALL, 1)).tip == id_
        for url, context in ((f"rediss://127.0.0.1:{port}", client_context), (f"rediss://localhost:{port}", None)):
            with pytest.raises(StoreUnavailableError):
                async with RedisStore(url, name=name, ssl_context=context):
                    pass
        group.cancel_scope.cancel()
    await tls.aclose()


async def test_a_server_of_its_own_tls_that_wants_a_certificate_and_a_password(make_tls_redis, tmp_path, name):
    """`rediss://user:password@` on a server that speaks TLS itself: reads, appends and follows; only with both."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    authority.cert_pem.write_to_path(tmp_path / "authority")
    files = ("--tls-cert-file", "cert", "--tls-key-file", "key", "--tls-ca-cert-file", "authority")
    options = [str(tmp_path / word) if n % 2 else word for n, word in enumerate(files)]
    _, port = make_tls_redis(*options, "--requirepass", "secret")
    anonymous, known = ssl.create_default_context(), ssl.create_default_context()
    for context in (anonymous, known):
        authority.configure_trust(context)
    authority.issue_cert("client@example.org").configure_cert(known)

    async with RedisStore(f"rediss://default:secret@localhost:{port}", name=name, ssl_context=known) as store:
        (first,) = await store.append([("a", b"1")])
        async with store.follow(first) as pages:
            (second,) = await store.append([("a", b"2")])
            with anyio.fail_after(5):
                assert [event.id for event in (await anext(pages)).events] == [second]
        assert [event.id for event in (await store.read(ALL, None)).events] == [first, second]
    for password, context in (("wrong", known), ("secret", anonymous)):
        with pytest.raises(StoreUnavailableError):
            async with RedisStore(f"rediss://:{password}@localhost:{port}", name=name, ssl_context=context):
                pass


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", ""])
def test_a_bad_url_is_refused(url, anyio_backend_name):
    """A URL of another kind raises when the store is made."""
    with pytest.raises(ValueError, match="url must begin with redis://"):
        RedisStore(url)


async def test_a_server_that_forgets_is_warned_of(make_redis, caplog, name):
    """At the start, the log warns of a server that evicts keys or loses everything at a restart."""
    server = make_redis("--appendonly", "no", "--maxmemory-policy", "allkeys-lru")
    async with RedisStore(server.url, name=name):
        pass
    assert "noeviction" in caplog.text
    assert "appendonly" in caplog.text
    caplog.clear()
    server = make_redis()
    async with RedisStore(server.url, name=name):
        pass
    assert caplog.text == ""


async def test_scripts_that_the_server_forgot_are_sent_again(make_redis, name):
    """A restarted server knows no scripts; they are sent again without an error."""
    server = make_redis()
    async with RedisStore(server.url, name=name, retry_for=0) as store:
        await store.append([("a", b"1")])
        server.command("SCRIPT", "FLUSH")
        await store.append([("a", b"2")])
        server.command("SCRIPT", "FLUSH")
        assert len((await store.read(ALL, None)).events) == 2


async def test_old_events_go_while_nothing_happens(shared_redis, name, monkeypatch):
    """Old events are trimmed even without an append."""
    now = 1000.0
    async with RedisStore(shared_redis.url, name=name, max_age=10, clock=lambda: now) as store:
        ids = await store.append([("a", b"1"), ("b", b"2")])
        now += 9
        (young,) = await store.append([("a", b"3")])
        now += 2
        await store._writer.call(store._log.maintain)
        assert (await store.read(ALL, None)).events[0].id == young
        assert (await store.read(TopicFilter("b"), ids[0])).gap == (ids[0], None)
        assert (await store.read(TopicFilter("a"), ids[0])).gap is None
    now += 20
    async with RedisStore(shared_redis.url, name=name, max_age=0.1, clock=lambda: now) as store:
        with anyio.fail_after(60):
            while (await store.read(ALL, None)).events:
                await anyio.sleep(0.01)


async def test_maintenance_survives_errors(make_redis, name, caplog):
    """If trimming by age fails, it is logged and tried again later."""
    server = make_redis()
    async with RedisStore(server.url, name=name, max_age=0.1, reply_within=0.2, retry_for=0):
        server.kill()
        await anyio.sleep(0.2)
    assert caplog.text.count("nothing was trimmed by age") > 1


async def test_the_ends_of_many_topics_are_forgotten(shared_redis, name, monkeypatch):
    """The store remembers a limited number of ended topics; for others it reports a gap rather than none."""
    monkeypatch.setattr("sse_trio.stores._redis.calls.MAX_FORGOTTEN", 10)
    async with RedisStore(shared_redis.url, name=name, max_events=1) as store:
        ids = [(await store.append([(f"t/{n}", b"")]))[0] for n in range(30)]
        for topic, after, missed in (
            ("t/1", 1, True),
            ("never", 1, True),
            ("t/25", 24, True),
            ("t/25", 25, False),
            ("never", 25, False),
            ("t/*", 25, True),
            ("t/*", 28, False),
        ):
            page = await store.read(TopicFilter(topic), ids[after])
            assert (page.gap is not None) == missed, (topic, after)
        await store.append([("t/1", b"")])
        assert (await store.read(TopicFilter("t/1"), ids[1])).gap is not None


async def test_a_script_looks_at_a_bounded_number_of_events(shared_redis, name, monkeypatch):
    """Reading a prefix among many other events takes several scripts, and nothing is lost between them."""
    monkeypatch.setattr("sse_trio.stores._redis.log._SCAN", 7)
    async with RedisStore(shared_redis.url, name=name) as store:
        await store.append([(f"{'pq'[n % 2]}/{n % 20}", b"%d" % n) for n in range(100)])
        for topics in (TopicFilter("p/*"), TopicFilter("p/*", "r/*", "x")):
            events, _ = await read_all(store, topics, None, limit=5)
            assert [int(event.payload) for event in events] == list(range(0, 100, 2))
            last = await store.read_last(topics, 20)
            assert [int(event.payload) for event in last.events] == list(range(60, 100, 2))
            assert len((await store.read_last(topics, 99)).events) == 50
        (new,) = await store.append([("z/1", b"")])
        page = await store.read(TopicFilter("z/*"), EventId("foreign", 1))
        assert page.gap == (EventId("foreign", 1), new)


async def test_a_page_of_a_follower_ends_where_a_script_has_to_look(shared_redis, name):
    """A follower that finds a hole in the numbers delivers what is before it, then asks what it means."""
    async with RedisStore(shared_redis.url, name=name, per_topic=Retention(max_events=1)) as store:
        start = (await store.read_last(ALL, 0)).tip
        await store.append([("b", b"1"), ("a", b"2"), ("a", b"3")])
        async with store._server.connect() as client:
            page = await store._log.wait_page(client, start, 0.01)
            assert page is not None
            assert plain(page.events) == [(1, "b", b"1")]
            assert await store._log.wait_page(client, page, 0.01) is None
        async with store.follow(page.next) as pages:
            page = await anext(pages)
            assert page.gap is not None
            assert plain(page.events) == [(3, "a", b"3")]


async def test_a_follower_at_the_end_is_handed_nothing_until_something_comes(shared_redis, name, monkeypatch):
    """A follower at the newest event gets no empty page, and gets the next event when it comes."""
    async with RedisStore(shared_redis.url, name=name) as store:
        [last] = await store.append([("a", b"old")])
        nothing, read, wait_page = anyio.Event(), store._log.read, store._log.wait_page
        found = []

        async def note_read(*args):
            found.append(await read(*args))
            return found[-1]

        async def note_wait(*args):
            nothing.set()  # the first read is over, and what it brought was handed on
            return await wait_page(*args)

        monkeypatch.setattr(store._log, "read", note_read)
        monkeypatch.setattr(store._log, "wait_page", note_wait)
        async with store.follow(last) as pages:
            await nothing.wait()
            assert plain(found[0].events) == []
            await store.append([("a", b"new")])
            assert plain((await anext(pages)).events) == [(2, "a", b"new")]


@pytest.mark.parametrize("where", ["connecting", "reading", "following"])
async def test_an_error_of_our_own_is_not_taken_for_the_servers(shared_redis, name, where, monkeypatch):
    """An error that is not the network's comes out unchanged, and isn't retried for ever."""

    async def fail(*args):
        raise ZeroDivisionError

    async def use(store):
        async with store:
            monkeypatch.setattr(store._log, "read", fail)
            if where == "reading":
                await store.read(ALL, None)
            async with store.follow(EventId(store.epoch, 0)) as pages:
                await anext(pages)

    store = RedisStore(shared_redis.url, name=name)
    if where == "connecting":
        monkeypatch.setattr(type(store._server), "connect", lambda _self, **_options: 1 / 0)
        expected = pytest.RaisesGroup(ZeroDivisionError, anyio.ClosedResourceError)
    else:
        expected = pytest.raises(ZeroDivisionError)
    with expected:
        await use(store)


async def test_a_mistake_of_one_caller_is_not_the_others(shared_redis, name, monkeypatch):
    """A request that can't be made raises for its caller only; the store goes on."""
    async with RedisStore(shared_redis.url, name=name) as store:
        with pytest.raises(ZeroDivisionError):
            await store._reader.call(lambda _client: 1 / 0)
        await store.append([("a", b"")])
        assert len((await store.read(ALL, None)).events) == 1


async def test_a_group_of_failures_is_a_failure():
    """A group of network errors counts as a network error."""
    from sse_trio.stores._redis.client import is_unavailable

    with pytest.RaisesGroup(ConnectionError, TimeoutError, check=is_unavailable):
        await fail_with(ConnectionError(), TimeoutError())
    with pytest.RaisesGroup(ConnectionError, ValueError, check=lambda group: not is_unavailable(group)):
        await fail_with(ConnectionError(), ValueError())


async def fail_with(*errors):
    async def fail(error):
        raise error

    async with anyio.create_task_group() as group:
        for error in errors:
            group.start_soon(fail, error)


async def test_nobody_waits_for_a_store_that_is_closed(make_redis, name):
    """A call that is made when the connections are gone raises ClosedResourceError instead of waiting for ever."""
    async with RedisStore(make_redis().url, name=name) as store:
        reader = store._reader
    with anyio.fail_after(60), pytest.raises(anyio.ClosedResourceError):
        await reader.call(lambda client: client.ping())


async def test_who_waits_when_the_store_closes_is_told(make_redis, make_proxy, name):
    """A call that the server has not answered raises ClosedResourceError when the store closes."""
    proxy = make_proxy(make_redis())
    caught = []

    async def read(store):
        try:
            await store.read(ALL, None)
        except anyio.ClosedResourceError as exc:
            caught.append(exc)

    async with anyio.create_task_group() as group, RedisStore(proxy.url, name=name) as store:
        proxy.mode = "black hole"
        group.start_soon(read, store)
        await anyio.wait_all_tasks_blocked()
    assert len(caught) == 1
