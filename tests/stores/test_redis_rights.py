# What a RedisStore needs of its server: the commands that docs/stores.md lists, for the keys of its hub, and no more.

from __future__ import annotations

import re
import secrets
from pathlib import Path

import anyio
import pytest

from sse_trio.stores import EventId, Retention, TopicFilter
from sse_trio.stores._redis.scripts import APPEND, READ
from sse_trio.testing._store_locations import ALL, read_all

redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
RedisStore = redis.RedisStore

PAGE = Path(__file__).parents[2] / "docs" / "stores.md"
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock", "forgive_coredis")]


def words_of_the_page():
    """Return the command by which the page makes a user, as words."""
    (block,) = re.findall(r"^ACL SETUSER .*?(?=^```)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return block.replace("\\\n", " ").split()


def make_user(server, name, *more):
    """Make the user of the page on a server, for another hub, and return the URL."""
    words = [word.replace("{shop}", f"{{{name}}}") for word in words_of_the_page()]
    words[2] = f"app-{name}"
    assert server.command(*words, *more).startswith(b"+OK")
    return server.url.replace("redis://", f"redis://app-{name}:secret@")


async def use_everything(store):
    """Call all that a store has, with limits that make it trim and with a script that the server has forgotten."""
    ids = [(await store.append([(f"t/{n}", b""), ("a", b"%d" % n)], key=("p", n)))[-1] for n in range(6)]
    assert await store.append([("t/5", b""), ("a", b"5")], key=("p", 5)) != []
    async with store.follow(ids[-2]) as pages:
        assert (await anext(pages)).events[-1].id == ids[-1]
        await store.append([("a", b"new")])
        assert (await anext(pages)).events[-1].payload == b"new"
    for topics in (ALL, TopicFilter("a"), TopicFilter("t/*"), TopicFilter("a", "t/*")):
        assert len((await read_all(store, topics, None))[0]) > 0
        assert len((await store.read_last(topics, 1)).events) == 1
        assert (await store.read(topics, EventId("foreign", 1))).gap is not None
    await store._writer.call(store._log.maintain)


LIMITS = {"max_events": 8, "max_age": 3600, "per_topic": Retention(max_events=4)}


async def test_the_commands_of_the_page_are_enough(each_server, caplog, monkeypatch):
    """A user with the documented commands and keys can use all of a store; without INFO there is only a warning."""
    monkeypatch.setattr("sse_trio.stores._redis.log.MAX_FORGOTTEN", 2)
    name = secrets.token_hex(4)
    url = make_user(each_server, name)
    async with RedisStore(url, name=name, retry_for=0, **LIMITS) as store:
        with anyio.fail_after(10):
            await use_everything(store)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "does not show its configuration" in caplog.text
    assert "maxmemory-policy noeviction and appendonly yes" in caplog.text


async def test_a_user_who_may_ask_is_not_warned(each_server, caplog):
    """With INFO, the store checks the server itself and warns only of real problems."""
    name = secrets.token_hex(4)
    async with RedisStore(make_user(each_server, name, "+info"), name=name, retry_for=0):
        pass
    assert "does not say" not in caplog.text


async def test_the_keys_of_the_page_are_the_hubs(each_server):
    """A user with the documented keys can't reach another hub."""
    name = secrets.token_hex(4)
    url = make_user(each_server, name)
    with pytest.raises(redis.StoreUnavailableError):
        async with RedisStore(url, name="other", retry_for=0):
            pass


def test_the_page_lists_no_command_that_is_not_used(anyio_backend_name):
    """The documented commands are exactly those that the scripts and their start use."""
    in_scripts = {word.lower() for word in re.findall(r"redis\.call\('(\w+)'", APPEND + READ)}
    listed = {word[1:] for word in words_of_the_page() if word.startswith("+")}
    assert listed - in_scripts == {"eval", "evalsha", "xread", "hello", "select"}
    assert in_scripts < listed
