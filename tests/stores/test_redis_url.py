# The URL of a RedisStore: what is in it, what is refused, and that nothing of a password is ever shown.

from __future__ import annotations

import ssl
import traceback

import pytest

from sse_trio.stores._redis.url import parse_redis_url

redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
RedisStore = redis.RedisStore


@pytest.mark.parametrize(
    ("url", "name", "tls", "db", "username", "password"),
    [
        ("redis://localhost", "localhost:6379", False, 0, None, None),
        ("redis://", "localhost:6379", False, 0, None, None),
        ("redis://h:7/3", "h:7", False, 3, None, None),
        ("redis://h/3?db=4", "h:6379", False, 4, None, None),
        ("rediss://app:p%40%2F%3A%23@[::1]:7/", "[::1]:7", True, 0, "app", "p@/:#"),
        ("redis://:pw@h", "h:6379", False, 0, None, "pw"),
        ("redis://app@h", "h:6379", False, 0, "app", None),
        ("redis://:a@b@h", "h:6379", False, 0, None, "a@b"),
        ("unix:///run/redis%20one.sock?db=2", "/run/redis one.sock", False, 2, None, None),
        ("sentinel://h:7,[::1]/main", "main of sentinel h:7,[::1]:26379", False, 0, None, None),
        ("sentinels://app:pw@h/a%20b/3", "a b of sentinel h:26379", True, 3, "app", "pw"),
        ("cluster://h,i:7", "cluster h:6379,i:7", False, 0, None, None),
        ("clusters://:pw@h/0", "cluster h:6379", True, 0, None, "pw"),
        ("unix://app:pw@/run/redis.sock", "/run/redis.sock", False, 0, "app", "pw"),
    ],
)
def test_a_url_is_read(url, name, tls, db, username, password):
    """Host, port, database, user and password are read from the URL, percent-decoded."""
    address = parse_redis_url(url)
    assert (address.name, address.tls, address.db) == (name, tls, db)
    assert (address.username, address.password) == (username, password)
    assert "pw" not in repr(address)


SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2/secret==@127.0.0.1:1/0",
        "redis://:1/hunter2@127.0.0.1:1/0",
        "redis://user:hunter2#frag@127.0.0.1:1/0",
        "redis://user:hunter2?x@127.0.0.1:1/0",
        "redis://user:1?hunter2@127.0.0.1:1/0",
        "redis://user:1#hunter2@127.0.0.1:1/0",
        "redis://user:hunter2[x@127.0.0.1:1/0",
        "redis://user:hunter2]x@127.0.0.1:1/0",
        "redis://user:hunter2\n@127.0.0.1:1/0",
        "redis://user:hunter2 @127.0.0.1:1/0",
        "redis://user:hunter2\ufe56@127.0.0.1:1/0",
        "redis://user:hunter2@127.0.0.1:bad/0",
        "redis://user:hunter2@127.0.0.1:99999/0",
        "redis://user:hunter2@127.0.0.1/none",
        "redis://user:hunter2@127.0.0.1/\u00b2",
        "redis://user:hunter2@127.0.0.1/0#",
        "redis://127.0.0.1:1/0?password=hunter2",
        "redis://127.0.0.1:1/0?hunter2",
        "unix://user:hunter2@host/run/redis.sock",
        "unix://user:hunter2@",
        "sentinel://user:hunter2@h",
        "sentinel://user:hunter2@h,i:bad/main",
        "cluster://user:hunter2@h/1",
        "http://user:hunter2@127.0.0.1",
    ],
)
def test_no_error_quotes_a_url(url):
    """A URL that can't be read is refused when the store is made, and the error quotes no part of the password."""
    with pytest.raises(ValueError, match="percent-encoded") as caught:
        RedisStore(url)
    shown = "".join(traceback.format_exception(caught.value)).replace(f'RedisStore("{url}")', "")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert SECRET not in shown


@pytest.mark.parametrize("option", ["ssl_cert_reqs=none", "ssl_check_hostname=false", "x=ssl_", "ssl_ca_certs=/ca"])
def test_no_option_turns_off_the_check_of_the_servers_name(option):
    """TLS is as `ssl_context=` says, or as safe as Python makes it: a URL can't weaken it."""
    with pytest.raises(ValueError, match="ssl_context= for TLS"):
        RedisStore(f"rediss://localhost?{option}")
    context = RedisStore("rediss://localhost?db=1")._server._ssl_context
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_tls_that_would_not_be_spoken_is_refused():
    """ssl_context= without TLS is refused, because everything would be sent in the clear."""
    with pytest.raises(ValueError, match="write rediss://"):
        RedisStore("redis://localhost", ssl_context=ssl.create_default_context())


@pytest.mark.parametrize("name", ["a}b", "{", "cust-a}:x:topic:X", "", "\ud800"])
def test_a_name_reaches_no_other_hubs_keys(name):
    """A name can't contain braces, because all keys begin with the name in braces."""
    with pytest.raises(ValueError, match="name must be"):
        RedisStore("redis://localhost", name=name)


def test_its_repr_names_the_server():
    """A Redis store shows its hub's name and its server, and neither the user nor the password."""
    store = RedisStore("redis://app:hunter2@localhost:7/3", name="prices")
    assert repr(store) == "<RedisStore 'prices' in Redis at localhost:7: not open yet>"
