# What holds against those who mean ill: the bounds that docs/security.md states, where no test of a module shows them.
#
# Rule 1: a test does what an attacker would, through what an attacker reaches: a request, an event's text, a stream
#         that is read slowly. What the stores make of such text is in tests/stores/test_hostile.py, what the servers
#         do in tests/e2e/test_security.py.
# Rule 2: the page names the tests, and a test sees to it that what it names exists.

from __future__ import annotations

import ast
import json
import logging
import re
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route

import sse_trio
from sse_trio import (
    CloseReason,
    EventDecoder,
    EventSourceResponse,
    ServerSentEvent,
    StreamGroup,
    last_event_id,
    open_event_channel,
    open_hub,
)
from sse_trio._channels.buffer import encode_queued
from sse_trio._wire.event import as_event, is_plain
from sse_trio.stores import MemoryStore, Retention, TopicFilter, check_topic
from sse_trio.stores._protocol import EventId, StoredEvent, pack_event
from sse_trio.testing import open_test_stream

from ._volume import volume

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "security.md"
PACKAGE = Path(sse_trio.__file__).parent
EVIL = "x\r\nINFO forged: \x1b[31mred\x07\u2028\x85 and on"


# --- the page


def names_in(path):
    """The names of the tests in a file, those in classes included."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_the_page_names_tests_that_exist():
    """Each section about a threat names the tests that show its bounds, and they exist."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    threats = [section for section in sections if not section.startswith("Checklist")]
    assert len(threats) >= 9
    for section in threats:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", section)
        assert named, f"no test is named under {section.splitlines()[0]}"
        missing = [(file, name) for file, name in named if name not in names_in(ROOT / file)]
        assert not missing


# --- event injection

hostile = st.text("a \n\r\0:;\ufeff\u2028\x85\x0b\x0c\x1b\ud800é", max_size=9) | st.sampled_from(
    ["\n\nevent: x", "a\r\n\r\ndata: x", "\rid: 7\r", "\nretry: 0\n", ": x", "data: x", "\ud83d", "\0", ""]
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "data": hostile | st.integers() | st.floats() | st.binary(max_size=6),
        "event": hostile,
        "id": hostile,
        "retry": st.integers(-1, 10**30),
        "comment": hostile,
    },
)
some = settings(max_examples=volume(300), deadline=None, derandomize=True)


def received_between(wire, sep):
    """Return what a client gets from these bytes between two known events: events, and the reconnection time."""
    decoder = EventDecoder()
    first, *between, last = decoder.feed(b"data: first\n\n".replace(b"\n", sep.encode()) + wire + b"data: last\n\n\n")
    assert (first.data, last.event, last.data) == ("first", "message", "last")
    return between, last.id, decoder.retry


def as_a_client_gets_it(event, id_=None):
    """The same as of `received_between`, of an event as it was meant."""
    id_ = event.id or "" if id_ is None else id_
    data = None if event.data is None else re.sub("\r\n?", "\n", event.data)
    return [] if data is None else [(event.event or "message", data, id_)], id_, event.retry


@some
@given(fields, st.sampled_from(["\n", "\r\n", "\r"]))
def test_what_is_accepted_is_one_event(values, sep):
    """Whatever text is put into an event, it is refused, or is to a client that event and nothing else."""
    check_one_event(values, sep)


@pytest.mark.parametrize("sep", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\n\r", "\n\n", "\r\r", "\0", "\u2028", "\x85"])
@pytest.mark.parametrize("name", ["data", "event", "id", "comment"])
def test_no_field_begins_in_another(name, end, sep):
    """Text that looks like the end of a line or of an event, with a field behind it, stays in its field."""
    for field in ("data: x", "event: x", "id: 7", "retry: 0", ": x", end):
        check_one_event({"data": "the data", name: f"a{end}{field}{end}"}, sep)


def check_one_event(values, sep):
    try:
        event = as_event(values)
    except ValueError:
        return
    assert received_between(event.encode(sep), sep) == as_a_client_gets_it(event)
    if event.id is None:
        stored = StoredEvent(EventId("5f3a91c0", 7), "topic", pack_event(event))
        assert received_between(stored.encode(sep), sep) == as_a_client_gets_it(event, "5f3a91c0-7")
        assert stored.event.data == as_a_client_gets_it(event)[0][0][1] if event.data is not None else True


@some
@given(hostile, st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_text_that_is_sent_is_one_event(text, sep):
    """The same of a plain text, which is not made an event of on its way."""
    try:
        event = ServerSentEvent(text)
    except ValueError:
        assert not is_plain(text)
        return
    assert received_between(encode_queued(text if is_plain(text) else event, sep), sep) == as_a_client_gets_it(event)


@pytest.mark.parametrize("name", ["event", "id"])
def test_an_error_quotes_little(name):
    """An error quotes a refused value on one line, shortened, so that a log can show it."""
    with pytest.raises(ValueError, match="line break") as info:
        ServerSentEvent(**{name: EVIL + "x" * 2**20})
    assert len(str(info.value)) < 400
    assert str(info.value).isprintable()
    for topic in ("*" + EVIL * 2**16, "\ud800" * 2**20):
        for check in (check_topic, TopicFilter):
            with pytest.raises(ValueError, match="topic|pattern") as info:
                check(topic)
            assert len(str(info.value)) < 800


# --- topics


@some
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(["*", "1/*", "/*", "../2", "%2A"])
)
def test_a_quoted_name_is_one_topic(name):
    """A quoted user name is a topic one level below, whatever it contains, and never a pattern."""
    topics = TopicFilter(f"user/{quote(name, safe='')}")
    assert (len(topics.exact), topics.prefixes) == (1, ())
    (topic,) = topics.exact
    assert topic.count("/") == 1
    assert check_topic(topic) == topic


@pytest.mark.parametrize("name", ["*", "1/*", "/*"])
def test_a_star_that_a_user_brings_is_refused(name):
    """check_topic() refuses a pattern, where subscribe() would take it for one."""
    assert TopicFilter(f"user/{name}").prefixes
    with pytest.raises(ValueError, match="a topic to publish to must be"):
        check_topic(f"user/{name}")


# --- ids that a client brings


def app_of(hub, **options):
    async def endpoint(request):
        return EventSourceResponse(hub.subscribe("a", after=last_event_id(request)), **options)

    return Starlette(routes=[Route("/{rest:path}", endpoint)])


IDS = ["9" * 2**20, "é" * 2**19, "\0" * 2**18, "a\r\nx: y", " ", "-", "0-0", "\x1b[31m", "5f3a91c0-" + "9" * 5000]


@pytest.mark.anyio
@pytest.mark.parametrize("id_", IDS, ids=range(len(IDS)))
async def test_an_id_of_any_kind_is_a_short_gap(id_, caplog):
    """An id that no store has given is answered by a gap in some hundred bytes, and no line in a log."""
    caplog.set_level(logging.INFO)
    async with open_hub() as hub:
        await hub.publish("a", "1")
        for request in ({"params": {"lastEventId": id_}}, {"headers": {"Last-Event-ID": id_}}):
            async with open_test_stream(app_of(hub), **request) as stream:
                assert stream.status_code == 200
                gap = await stream.receive()
                assert (gap.event, (await stream.receive()).data) == ("gap", "1")
                assert 0 < len(json.loads(gap.data)["after"]) <= 200
                header = stream.headers["event-stream-gap"]
                assert header.isprintable()
                assert header == header.strip()
                assert len(header) + len(stream.body) < 2500
    assert not caplog.records


@pytest.mark.anyio
async def test_an_id_that_no_wire_can_carry():
    """Not even an id of JSON's making, with half a character in it, is an error of the stream."""
    async with open_hub() as hub, hub.subscribe("a", after=json.loads('"\\ud800"')) as subscription:
        assert json.loads((await subscription.receive()).data) == {"after": "?", "oldest": None}


@pytest.mark.anyio
async def test_what_a_client_learns_of_others_is_how_much_they_say():
    """Numbers in the ids apart, the bytes that a user is sent are the same, whatever is said to others meanwhile."""
    seen = []
    for others in (0, 9):
        async with open_hub(MemoryStore(per_topic=Retention(max_events=3))) as hub:
            ids = []
            for n in range(3):
                ids.append(str(await hub.publish("a", f"mine {n}")))
                ids += [str(await hub.publish("b", "secret")) for _ in range(others)]
            for n, after in enumerate((None, "of another hub", ids[0], ids[1] if others else ids[0])):
                headers = {} if after is None else {"Last-Event-ID": after}
                async with open_test_stream(app_of(hub), headers=headers) as stream:
                    await hub.publish("b", "secret")
                    await hub.publish("a", f"end {n}")
                    while not stream.body.endswith(b"data: end %d\n\n" % n):
                        await stream.receive()
                seen.append(re.sub(rb"[0-9a-f]{8}-[0-9]+", b"<id>", stream.body))
    assert seen[:4] == seen[4:]
    assert not re.search(rb"secret|[0-9]{2}", b"".join(seen))


# --- clients that take little, or ask for much


async def flood(send_channel):
    while True:
        await send_channel.send("x" * 1000)


@pytest.mark.anyio
async def test_a_client_that_takes_nothing_is_dropped_by_default():
    """With no option given, it holds 64 KiB of events and one write, for 30 seconds, and its connection is dropped."""
    group = StreamGroup()
    async with open_test_stream(EventSourceResponse(flood, group=group)) as stream:
        await stream.receive()
        stream.stall()
        began = anyio.current_time()
        await anyio.sleep(25)
        (statistics,) = group.streams()
        assert statistics.buffered_bytes <= 65_536
        await stream.wait_closed()
        assert 30 <= anyio.current_time() - began <= 31
        assert stream.is_aborted
    assert stream.close_reason is CloseReason.SEND_TIMEOUT


@pytest.mark.anyio
async def test_a_client_that_takes_a_little_now_and_then():
    """One that takes each write just in time holds no more than that, and for no longer than `max_lifetime`."""
    group = StreamGroup()
    held = []

    async def take_slowly(message):
        await anyio.sleep(29)
        held.extend(statistics.buffered_bytes for statistics in group.streams())

    began = anyio.current_time()
    response = EventSourceResponse(flood, group=group, max_lifetime=600)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    # The last write is under way, and the server unknown.
    with pytest.raises(sse_trio.SendTimeoutError, match="lifetime"):
        await response(scope, anyio.sleep_forever, take_slowly)
    assert 0.8 * 600 <= anyio.current_time() - began <= 602
    assert len(held) >= 16
    assert max(held) <= 65_536
    assert group.statistics().closed == {CloseReason.LIFETIME: 1}


@pytest.mark.anyio
async def test_many_that_ask_for_all_of_the_history():
    """A client that asks for all of the history holds one page of it at a time, however slowly it reads."""
    group = StreamGroup()
    async with open_hub(MemoryStore(max_events=5000), max_ring_events=8) as hub, anyio.create_task_group() as tasks:
        for _ in range(50):
            await hub.publish_many([("a", "x" * 100)] * 100)

        async def ask():
            headers = {"Last-Event-ID": "from-the-beginning"}
            async with open_test_stream(app_of(hub, group=group, send_timeout=None), headers=headers) as stream:
                stream.stall()
                await anyio.sleep_forever()

        for _ in range(20):
            tasks.start_soon(ask)
        await anyio.sleep(10)
        held = [statistics.buffered_events for statistics in group.streams()]
        assert len(held) == 20
        assert max(held) <= 257  # the page, and the gap
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_filter_that_fails_is_one_stream_s_affair():
    """If a user's event makes a filter fail, only the streams with that filter end, not the hub or others."""

    def fails(topic, event):
        raise KeyError(event.data)

    async with open_hub() as hub:
        filtered = EventSourceResponse(hub.subscribe("a", filter=fails))
        async with open_test_stream(EventSourceResponse(hub.subscribe("a"))) as other:
            with pytest.raises(KeyError):
                async with open_test_stream(filtered) as stream:
                    await hub.publish("a", "1")
                    await stream.wait_closed()
            await hub.publish("a", "2")
            assert [(await other.receive()).data for _ in range(2)] == ["1", "2"]


# --- other origins


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_no_other_origin_is_let_in(method):
    """A stream allows no other origin to read it, and no cache to keep it for another client."""

    async def once(send_channel):
        await send_channel.send("secret")

    headers = {"origin": "https://other.example", "cookie": "session=1"}
    async with open_test_stream(EventSourceResponse(once), headers=headers, method=method) as stream:
        assert not [name for name in stream.headers if name.startswith("access-control-")]
        assert stream.headers["x-content-type-options"] == "nosniff"
        assert stream.headers["cache-control"] == "no-store, no-transform"
        await stream.wait_closed()


# --- logs and metrics


@pytest.mark.anyio
async def test_a_line_in_the_log_is_one_line(caplog):
    """A client's path is escaped in the log, so that it can't forge lines or control a terminal."""
    caplog.set_level(logging.DEBUG)
    path = f"/{EVIL}"
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    messages = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]

    async def receive():
        return messages.pop(0)

    async def send(message):
        await anyio.sleep(60)

    sender, receiver = open_event_channel()
    with sender:
        await EventSourceResponse(receiver)(scope, receive, send)
    stalled = EventSourceResponse(flood, send_timeout=1)
    with pytest.raises(sse_trio.SendTimeoutError):
        await stalled(scope, anyio.sleep_forever, send)
    lines = [logging.Formatter("%(message)s").format(record) for record in caplog.records]
    assert {record.levelname for record in caplog.records} == {"DEBUG", "WARNING"}
    assert sum("forged" in line for line in lines) == 3
    assert all(line.isprintable() for line in lines)


@pytest.mark.anyio
async def test_what_clients_send_is_no_label_of_a_metric():
    """Paths, labels, topics and ids make no time series: there are as many after a thousand clients as before."""
    prometheus_client = pytest.importorskip("prometheus_client")
    from sse_trio.metrics import EventStreamCollector

    group = StreamGroup(name="app")
    registry = prometheus_client.CollectorRegistry()
    collector = EventStreamCollector(group)
    registry.register(collector)
    async with open_hub() as hub:
        collector.add_hub(hub)
        before = prometheus_client.generate_latest(registry).count(b"\n")
        for n in range(5):
            response = EventSourceResponse(hub.subscribe(f"topic-{n}"), group=group, labels={"user": f"user-{n}"})
            async with open_test_stream(response, f"/path-{n}", headers={"Last-Event-ID": f"id-{n}"}):
                text = prometheus_client.generate_latest(registry)
                assert not re.search(rb"(topic|user|path|id)-\d", text)
                assert text.count(b"\n") == before


# --- what the package does not do


HARMLESS = frozenset({"importlib.metadata", "importlib.machinery"})  # they import nothing


def test_nothing_is_unpickled_or_evaluated():
    """The package imports nothing that runs or rebuilds what it reads, and starts no process."""
    banned = {"pickle", "marshal", "shelve", "dill", "yaml", "subprocess", "ctypes", "importlib", "xml", "tempfile"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            # What compresses or decompresses is looked for by names of our own, and by nobody else's.
            found = {name.partition(".")[0] for name in names if name not in HARMLESS} & banned
            assert not found - ({"importlib"} if path.name in {"codings.py", "_codecs.py"} else set()), path
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            assert called not in {"eval", "exec", "compile", "__import__"}, path


def test_the_inspectors_page_sets_text_as_text():
    """No script of the page's own makes elements of a text, or code of one."""
    scripts = sorted((PACKAGE / "inspector" / "static").glob("*.js"))
    assert len(scripts) >= 5
    for script in scripts:
        found = re.search(
            r"(inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|javascript:|\.href\b",
            script.read_text(encoding="utf-8"),
        )
        assert found is None, (script.name, found)
