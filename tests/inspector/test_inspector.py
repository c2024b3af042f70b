"""The inspector: who may, what is sent, how much of it, and the kick. Its page is tested in tests/e2e."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import anyio.lowlevel
import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.routing import Mount

from sse_trio import (
    CloseReason,
    EventSourceResponse,
    StreamGroup,
    StreamRefusedError,
    StreamStatistics,
    open_hub,
    open_runs,
)
from sse_trio._groups.group import run_of
from sse_trio.inspector import stream_inspector
from sse_trio.inspector._sampler import HISTORY, Sampler
from sse_trio.inspector._view import MAX_ROWS, SORTS, Selection, Table
from sse_trio.testing import open_test_stream, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio

STREAM = StreamStatistics(
    number=1,
    path="/",
    labels={},
    topics=(),
    age=1.0,
    first_event_after=None,
    written_events=0,
    written_bytes=0,
    buffered_events=0,
    buffered_bytes=0,
    lag=None,
    dropped=0,
    writing_for=None,
    stalls=0,
    close_reason=None,
)


def allow(request):
    return True


@pytest.fixture
def group():
    return StreamGroup(name="app")


def client_of(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://testserver")


async def wait_forever(send_channel):
    await send_channel.send("one")
    await anyio.sleep_forever()


@asynccontextmanager
async def open_streams(group, count, **labels):
    """Open this many streams of the group, each with its number as a label."""
    async with anyio.create_task_group() as task_group:

        async def receive():
            await anyio.sleep_forever()

        async def send(message):
            pass

        for i in range(count):
            response = EventSourceResponse(wait_forever, group=group, ping=None, labels={"n": str(i), **labels})
            scope = {"type": "http", "method": "GET", "path": f"/{i}", "headers": []}
            task_group.start_soon(response, scope, receive, send)
        await wait_all_tasks_blocked()
        yield
        task_group.cancel_scope.cancel()


async def count_turns(async_fn, *args):
    """Run a function, and return how many turns another task has had meanwhile."""
    turns = 0

    async def take_turns():
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as task_group:
        task_group.start_soon(take_turns)
        await async_fn(*args)
        task_group.cancel_scope.cancel()
    return turns


async def receive_until(stream, name):
    """Receive events up to the first of this name, and return its data."""
    while (event := await stream.receive()).event != name:
        pass
    return json.loads(event.data)


# --- who may


@pytest.mark.parametrize("path", ["/", "/page.js", "/vendor/uplot/uPlot.iife.min.js", "/stream", "/nothing"])
async def test_refuses_everyone_until_it_is_told_who_may(group, path):
    """Without `authorize` every request is refused, and the answer says what is missing."""
    async with client_of(stream_inspector(group)) as client:
        answer = await client.get(path)
        assert answer.status_code == 403
        assert "authorize=" in answer.text
        assert (await client.post("/kick/1")).status_code == 403
    assert group.statistics().opened == 0


@pytest.mark.usefixtures("real_clock")
async def test_authorize_is_asked_about_each_request(group):
    """`authorize` is called for every request, including the page's files, and only `True` lets one through."""
    asked = []
    answer = True

    async def authorize(request):
        asked.append((request.method, request.url.path))
        await anyio.lowlevel.checkpoint()
        return answer

    async with client_of(stream_inspector(group, authorize=authorize)) as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/page.css")).status_code == 200
        for other in (False, None, 1, "yes"):
            answer = other
            refused = await client.get("/")
            assert (refused.status_code, refused.text) == (403, "Forbidden")
        assert (await client.post("/kick/1")).status_code == 403
    assert asked == [("GET", "/"), ("GET", "/page.css"), *[("GET", "/")] * 4, ("POST", "/kick/1")]


async def test_authorize_may_answer_by_itself(group):
    """An HTTPException of `authorize` is the answer: to ask for a password, say."""

    def authorize(request):
        raise HTTPException(401, headers={"www-authenticate": "Basic"})

    async with client_of(stream_inspector(group, authorize=authorize)) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Basic")


async def test_authorize_that_is_none():
    """An `authorize` that can't be called raises when the inspector is made."""
    with pytest.raises(TypeError, match="authorize must be a function"):
        stream_inspector(StreamGroup(), authorize="admin")


async def test_websockets_are_closed(group):
    """There is nothing for a WebSocket here."""
    sent = []

    async def send(message):
        sent.append(message["type"])

    scope = {"type": "websocket", "path": "/stream", "headers": [], "query_string": b"", "extensions": {}}
    await stream_inspector(group, authorize=allow)(scope, None, send)
    assert sent == ["websocket.close"]


# --- the page


@pytest.mark.usefixtures("real_clock")
async def test_the_page_runs_nothing_but_its_files(group):
    """Every file of the page carries the policy; nothing in it is inline or from elsewhere."""
    app = Starlette(routes=[Mount("/admin/streams", stream_inspector(group, authorize=allow))])
    async with client_of(app) as client:
        page = await client.get("/admin/streams", follow_redirects=True)
        assert page.url.path == "/admin/streams/"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["cross-origin-resource-policy"] == "same-origin"
        assert "style=" not in page.text
        assert "http" not in page.text.replace("http-equiv", "")
        for name in ("page.js", "plot.js", "press.js", "table.js", "format.js", "theme.js", "page.css", "favicon.svg"):
            file = await client.get(f"/admin/streams/{name}")
            assert (file.status_code, file.headers["content-security-policy"]) == (200, policy)
        assert "Leon Sorokin" in (await client.get("/admin/streams/vendor/uplot/LICENSE")).text


# --- its stream


async def test_the_stream_says_what_is_open(group):
    """A page is sent the figures and the streams, with what is known of each; it is not one of them itself."""
    async with open_streams(group, 2), open_hub(name="prices") as hub:
        app = stream_inspector(group, hub, authorize=allow)
        async with (
            open_test_stream(EventSourceResponse(hub.subscribe("a"), group=group), "/prices"),
            open_test_stream(app, "/stream?sort=path&order=ascending") as page,
        ):
            hello = await receive_until(page, "hello")
            assert (hello["group"], hello["hub"]) == ("app", "prices")
            history = await receive_until(page, "history")
            assert [len(column) for column in history] == [1, 1, 1, 1]
            totals = await receive_until(page, "totals")
            assert totals["figures"][1:] == [3, None, None]
            assert totals["hub"]["subscribers"] == 1
            table = await receive_until(page, "streams")
            zero, one, prices = [table["rows"][number] for number in table["order"]]
            assert table["matching"] == 3
            assert (zero["path"], zero["labels"], one["labels"]) == ("/0", {"n": "0"}, {"n": "1"})
            assert (prices["path"], prices["topics"], prices["lag"]) == ("/prices", ["a"], 0)
            feeds = await receive_until(page, "feeds")
            assert (feeds["order"], feeds["rows"]["('a',)"]["subscribers"]) == (["('a',)"], 1)
            for _ in range(3):
                await receive_until(page, "totals")
            assert page.body.count(b"event: feeds") == 1


async def test_the_stream_says_what_runs(group):
    """A page is sent a row for each run of this process: its key, labels, events and watchers; and their number."""
    async with open_hub() as hub, open_runs(hub) as runs:
        await runs.start("chat/42", wait_forever, labels={"tenant": "acme"})
        await runs.start("chat/43", wait_forever)
        app = stream_inspector(group, runs=lambda request: runs, authorize=allow)
        async with open_test_stream(runs.response("chat/42")), open_test_stream(app, "/stream") as page:
            assert (await receive_until(page, "totals"))["runs"] == 2
            table = await receive_until(page, "runs")
            assert table["order"] == ["chat/42", "chat/43"]
            row = table["rows"]["chat/42"]
            assert (row["key"], row["labels"], row["events"], row["watchers"]) == (
                "chat/42",
                {"tenant": "acme"},
                1,
                1,
            )
            await runs.stop("chat/42")
            assert (await receive_until(page, "runs"))["order"] == ["chat/43"]
            for _ in range(3):
                await receive_until(page, "totals")
            assert page.body.count(b"event: runs") == 2


async def test_runs_are_read_once_a_second(group):
    """Pages that look at the same runs share what is read of them; a page without runs reads none."""
    sampler = Sampler(group)
    async with open_hub() as hub, open_runs(hub) as runs:
        sample = await sampler.read()
        assert sampler.read_runs(sample, runs) is sampler.read_runs(sample, runs)
        assert sampler.read_runs(sample, None) is None


async def test_who_was_refused_is_counted():
    """A page gets the number of streams that the group has refused, by limit; none for a group without limits."""
    group = StreamGroup(max_streams=1)
    async with open_streams(group, 1):
        for _ in range(2):
            with pytest.raises(StreamRefusedError):
                run_of(group).enter(Request)
        async with open_test_stream(stream_inspector(group, authorize=allow), "/stream") as page:
            assert (await receive_until(page, "totals"))["refused"] == {"max_streams": 2}
    async with open_test_stream(stream_inspector(StreamGroup(), authorize=allow), "/stream") as page:
        assert (await receive_until(page, "totals"))["refused"] == {}


async def test_it_can_be_opened_when_there_is_no_room():
    """Pages take no place of the group's, and pass its limits: a group that is full is one to be looked into."""
    group = StreamGroup(max_streams=1, max_streams_per=(pytest.fail, 1), accept_rate=0.001)
    app = stream_inspector(group, authorize=allow)
    async with open_test_stream(app, "/stream") as one, open_test_stream(app, "/stream") as another:
        for page in (one, another):
            assert (await receive_until(page, "totals"))["opened"] == 0
        assert group.statistics().open_streams == 0


async def test_what_changes_is_sent(group):
    """After the first time a row is sent what has changed in it, and nothing when nothing has."""
    send = None

    async def produce(send_channel):
        nonlocal send
        send = send_channel.send
        await anyio.sleep_forever()

    app = stream_inspector(group, authorize=allow)
    async with open_test_stream(EventSourceResponse(produce, group=group, ping=None)) as stream:
        async with open_test_stream(app, "/stream?text=inspector-is-no-match-for-this") as page:
            await receive_until(page, "streams")
            for _ in range(2):
                await receive_until(page, "totals")
            assert page.body.count(b"event: streams") == 1
        await anyio.sleep(2)  # what was read for another is not read again in the same second
        async with open_test_stream(app, "/stream?sort=age") as page:
            first = await receive_until(page, "streams")
            assert first["order"][0] == "1"
            await send("one")
            await stream.receive()
            second = await receive_until(page, "streams")
            assert second["rows"]["1"] == {"events": 1, "bytes": len(stream.body)}
            assert "order" not in second
            assert "matching" not in second
            assert (await receive_until(page, "totals"))["figures"][2] >= 0
            await group.kick(lambda labels: not labels)
            await stream.wait_closed()
            while "matching" not in (third := await receive_until(page, "streams")):
                pass
            assert (third["matching"], third["order"]) == (0, [])
            [ended] = await receive_until(page, "closed")
            assert (ended["number"], ended["reason"], ended["events"]) == (1, "kicked", 1)


async def test_rates(group):
    """The rates are what was written since the sample before."""

    async def ten_a_second(send_channel):
        while True:
            await send_channel.send("x")
            await anyio.sleep(0.1)

    app = stream_inspector(group, authorize=allow)
    async with open_test_stream(EventSourceResponse(ten_a_second, group=group)):
        async with open_test_stream(app, "/stream") as page:
            for _ in range(5):
                totals = await receive_until(page, "totals")
            _, _, events, written = totals["figures"]
            assert events == pytest.approx(10, abs=2)
            assert written == events * len("data: x\n\n")
        await anyio.sleep(10)  # in which nobody looked on
        async with open_test_stream(app, "/stream") as page:
            history = await receive_until(page, "history")
            assert history[2][-1] is None


async def test_nothing_is_read_while_nobody_looks_on(group):
    """An inspector that is mounted and not looked at asks the group for nothing; nor does one whose page has gone."""
    asked = []

    class Asked(Sampler):
        async def _read(self, *args):
            asked.append(anyio.current_time())
            return await super()._read(*args)

    app = stream_inspector(group, authorize=allow)
    inspector = app.routes[0].app._app.routes[0].endpoint.__self__
    inspector._sampler = Asked(group)
    async with open_streams(group, 1):
        await anyio.sleep(10)
        assert asked == []
        async with open_test_stream(app, "/stream") as one, open_test_stream(app, "/stream") as two:
            for _ in range(3):
                await receive_until(one, "totals")
                await receive_until(two, "totals")
        seconds = [int(at) for at in asked]
        assert len(seconds) >= 3
        assert len(set(seconds)) == len(seconds), "two who look on share what is read"
        await anyio.sleep(10)
        assert len(asked) == len(seconds)


async def test_one_who_waits_reads_when_the_reader_goes(group):
    """If a page goes while it reads for others, one of them reads."""
    sampler = Sampler(group)
    samples = []
    scope = anyio.CancelScope()

    async def read():
        samples.append(await sampler.read())

    async def read_and_go():
        with scope:
            await sampler.read()

    async with open_streams(group, 600), anyio.create_task_group() as task_group:
        task_group.start_soon(read_and_go)
        while sampler._reading is None:
            await anyio.lowlevel.checkpoint()
        task_group.start_soon(read)
        task_group.start_soon(read)
        scope.cancel()
        await wait_all_tasks_blocked()
        assert scope.cancelled_caught
        assert [len(sample.streams) for sample in samples] == [600, 600]
        assert samples[0] is samples[1]
        task_group.cancel_scope.cancel()


async def test_pages_that_have_gone_are_not_shown_as_ended(group):
    """A page that is opened, or changes its selection, does not push ended streams out of their list."""
    app = stream_inspector(group, authorize=allow)
    for _ in range(3):
        async with open_test_stream(app, "/stream") as page:
            for _ in range(3):
                await receive_until(page, "totals")
    assert b"event: closed" not in page.body


async def test_a_hub_that_is_found_by_the_request(group):
    """A hub that is opened in the lifespan is found in the request's state."""
    async with open_hub(name="late") as hub:
        app = stream_inspector(group, lambda request: hub, authorize=allow)
        async with open_test_stream(app, "/stream") as page:
            assert (await receive_until(page, "hello"))["hub"] == "late"


async def test_it_ends_with_the_other_streams(group):
    """A shutdown ends the page's stream, too; it has a lifetime, after which who may no longer is refused."""
    app = stream_inspector(group, authorize=allow)
    async with open_test_stream(app, "/stream") as page:
        await receive_until(page, "streams")
        group.request_shutdown()
        await page.wait_closed()
        assert page.close_reason is CloseReason.SHUTDOWN


async def test_who_may_no_longer_is_shut_out_in_time(group):
    """A page's stream ends within a quarter of an hour."""
    app = stream_inspector(group, authorize=allow)
    async with open_test_stream(app, "/stream") as page:
        with anyio.fail_after(901):
            await page.wait_closed()
        assert page.close_reason is CloseReason.LIFETIME


@pytest.mark.parametrize("query", ["sort=fame", "rows=0", "rows=201", "rows=-1", "rows=x", "rows=" + "9" * 5000])
async def test_a_choice_that_makes_no_sense(group, query):
    """A selection that the page can't make is a 400."""
    async with client_of(stream_inspector(group, authorize=allow)) as client:
        answer = await client.get(f"/stream?{query}")
    assert answer.status_code == 400
    assert "must be" in answer.text


# --- thousands of streams


@pytest.mark.untraced
async def test_thousands_of_streams(group):
    """With 2,000 streams a page is sent its rows and no more, and reading them leaves other tasks their turn."""
    async with open_streams(group, 2000):
        turns = await count_turns(Sampler(group).read)
        assert turns > 5
        app = stream_inspector(group, authorize=allow)
        async with open_test_stream(app, "/stream?rows=50&sort=age") as page:
            table = await receive_until(page, "streams")
            assert (table["matching"], len(table["rows"]), len(table["order"])) == (2000, 50, 50)
            first = len(page.body)
            assert first < 30_000
            for _ in range(5):
                await receive_until(page, "totals")
            assert len(page.body) - first < 5 * 1000


async def test_what_is_remembered_is_bounded(group):
    """However long a page is open, the history and the list of ended streams are bounded."""
    sampler = Sampler(group)
    for _ in range(HISTORY + 100):
        await sampler.read()
        await anyio.sleep(1)
    assert len(sampler.history) == HISTORY
    for _ in range(1000):
        sampler.stream_closed(STREAM)
    assert len(sampler.closed) == 50
    assert sampler.closed[-1].position == 1000


# --- choosing


@pytest.mark.parametrize(
    ("text", "numbers"), [("", [3, 2, 1]), ("PRICES/", [1]), ("user=7", [2]), ("/jobs", [3]), ("nobody", [])]
)
def test_filter(text, numbers):
    """The filter matches a path, a topic, or a label with its value, in any case."""
    streams = [
        replace(STREAM, topics=("prices/*",)),
        replace(STREAM, number=2, labels={"user": "7"}),
        replace(STREAM, number=3, path="/jobs/1", dropped=1),
    ]
    matching, chosen = Selection(text=text, sort="path").choose(streams)
    assert matching == len(numbers)
    assert sorted(stream.number for stream in chosen) == sorted(numbers)


def test_trouble_comes_first():
    """A stalled client comes before one that lags, that before one with a full buffer, and calm ones come by age.

    A few events are no trouble: they wait for the next write.
    """
    streams = [
        STREAM,
        replace(STREAM, number=2, buffered_events=100),
        replace(STREAM, number=3, lag=50),
        replace(STREAM, number=4, writing_for=2.0),
        replace(STREAM, number=5, writing_for=0.5, lag=5, buffered_events=5),
    ]
    _, chosen = Selection().choose(streams)
    assert [stream.number for stream in chosen] == [4, 3, 2, 1, 5]


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_can_be_turned_round(sort):
    """The last row descending is the first ascending, and among equals the older stream comes first in both."""
    low = replace(STREAM, number=2)
    high = replace(
        STREAM,
        number=3,
        path="/z",
        age=9.0,
        written_events=1,
        written_bytes=1,
        buffered_bytes=1,
        lag=0,
        dropped=1,
        writing_for=3.0,
    )
    streams = [low, high, replace(STREAM, number=1)]
    _, descending = Selection(sort=sort).choose(streams)
    _, ascending = Selection(sort=sort, ascending=True).choose(streams)
    assert [stream.number for stream in descending] == [3, 1, 2]
    assert [stream.number for stream in ascending] == [1, 2, 3]
    assert len(Selection(sort=sort, rows=1).choose(streams)[1]) == 1


def test_a_table_says_what_has_changed():
    """Rows that are new are whole, others are their changed fields, and the order comes when it has changed."""
    table = Table()
    one, two = {"a": 1, "b": 2}, {"a": 3, "b": 4}
    assert table.changes({"1": one, "2": two}) == {"rows": {"1": one, "2": two}, "order": ["1", "2"]}
    assert table.changes({"1": dict(one), "2": dict(two)}) == {}
    assert table.changes({"1": {"a": 1, "b": 5}, "2": two}) == {"rows": {"1": {"b": 5}}}
    assert table.changes({"2": two, "1": {"a": 1, "b": 5}}) == {"order": ["2", "1"]}
    assert table.changes({"1": {"a": 1, "b": 5}}) == {"order": ["1"]}
    assert table.changes({"1": {"a": 1, "b": 5}, "2": two}) == {"rows": {"2": two}, "order": ["1", "2"]}
    assert Table().changes({}) == {"order": []}
    assert MAX_ROWS == 200


@pytest.mark.usefixtures("real_clock")
async def test_topics_can_not_hide_each_other(group):
    """A topic that contains a blank has its own row, beside the subscription to its two halves."""
    async with open_hub() as hub, hub.subscribe("a b"), hub.subscribe("a", "b"):
        async with open_test_stream(stream_inspector(group, hub, authorize=allow), "/stream") as page:
            rows = (await receive_until(page, "feeds"))["rows"]
        assert sorted(row["topics"] for row in rows.values()) == [["a", "b"], ["a b"]]


# --- where requests come from


def client_at(app, address, host):
    transport = httpx.ASGITransport(app=app, client=(address, 1234))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


@pytest.mark.parametrize(
    ("address", "host", "status"),
    [
        ("127.0.0.1", "evil.example:8000", 403),
        ("::1", "evil.example", 403),
        ("127.0.0.1", "127.0.0.1.evil.example", 403),
        ("127.0.0.1", "localhost:8000", 400),
        ("127.0.0.1", "app.localhost", 400),
        ("127.0.0.1", "127.0.0.2:8000", 400),
        ("127.0.0.1", "testserver", 400),
        ("a-unix-socket", "streams.example", 400),
        ("::1", "[::1]:8000", 400),
        ("203.0.113.7", "streams.example", 400),
    ],
)
async def test_a_name_that_is_pointed_at_this_machine(group, address, host, status):
    """A page whose name an attacker points at this machine is refused, though its requests come from this machine."""
    app = stream_inspector(group, authorize=lambda request: request.client.host == address)
    async with client_at(app, address, host) as client:
        answer = await client.get("/stream?rows=0")
    assert answer.status_code == status
    assert (status == 400) or "allowed_hosts=" in answer.text


@pytest.mark.parametrize(
    ("host", "status"), [("Streams.example:8443", 400), ("localhost", 403), ("other.example", 403)]
)
async def test_hosts_that_are_allowed(group, host, status):
    """With a list of hosts, only those are answered, wherever the request comes from."""
    app = stream_inspector(group, authorize=allow, allowed_hosts=["streams.example"])
    for address in ("127.0.0.1", "203.0.113.7"):
        async with client_at(app, address, host) as client:
            assert (await client.get("/stream?rows=0")).status_code == status


async def test_a_host_that_is_none(group):
    """A Host that can't be read is not among those that are allowed."""
    app = stream_inspector(group, authorize=allow, allowed_hosts=["localhost"])
    async with client_at(app, "127.0.0.1", "localhost") as client:
        assert (await client.get("/stream?rows=0")).status_code == 400
        assert (await client.get("/stream?rows=0", headers={"host": "[::1"})).status_code == 403


@pytest.mark.parametrize("hosts", ["localhost", 5, [5]])
def test_hosts_that_make_no_sense(group, hosts):
    """One name in place of a list would allow its letters: it is an error at the line that gives it."""
    with pytest.raises(TypeError, match="allowed_hosts must be a list of host names"):
        stream_inspector(group, authorize=allow, allowed_hosts=hosts)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://other.example", 403),
        ("null", 403),
        ("http://testserver:81", 403),
        ("http://testserver", 200),
        (None, 200),
    ],
)
async def test_an_origin_where_the_browser_says_nothing_else(group, origin, status):
    """On plain http a browser sends no Sec-Fetch-Site; then Origin has to be this host, for stream and kicks."""
    app = stream_inspector(group, authorize=allow)
    headers = {} if origin is None else {"origin": origin}
    async with open_test_stream(app, "/stream", headers={"host": "testserver", **headers}) as page:
        assert page.status_code == status
    async with open_test_stream(app, "/stream") as page, client_of(app) as client:
        token = (await receive_until(page, "hello"))["token"]
        answer = await client.post("/kick/1", headers={"x-inspector-token": token, **headers})
        assert answer.status_code == (403 if status == 403 else 404)


async def test_each_page_sees_its_own_hub(group):
    """Where the hub depends on the request, no page is shown another's, though both are read in the same second."""
    async with open_hub(name="ann") as ann, open_hub(name="bob") as bob, bob.subscribe("bob/secret"):
        hubs = {"ann": ann, "bob": bob}
        app = stream_inspector(group, lambda request: hubs[request.headers["x-tenant"]], authorize=allow)
        async with (
            open_test_stream(app, "/stream", headers={"x-tenant": "bob"}) as of_bob,
            open_test_stream(app, "/stream", headers={"x-tenant": "ann"}) as of_ann,
        ):
            assert (await receive_until(of_bob, "totals"))["hub"]["subscribers"] == 1
            assert (await receive_until(of_ann, "totals"))["hub"]["subscribers"] == 0
            await receive_until(of_ann, "totals")
        assert b"secret" not in of_ann.body


async def test_a_hub_is_read_once_a_second(group):
    """Pages that look at the same hub share what is read of it."""
    sampler = Sampler(group)
    async with open_hub() as hub:
        sample = await sampler.read()
        assert sampler.read_hub(sample, hub) is sampler.read_hub(sample, hub)
        assert sampler.read_hub(sample, None) is None


async def test_long_and_hidden_text_of_clients(group):
    """A path or a label is cut, and what can't be seen in it is shown by its number: no row looks like another."""
    path = "/room/" + "a" * 60_000
    response = EventSourceResponse(wait_forever, group=group, labels={"user": "ann\u202e\u200bnna\ufe0f\u3164"})
    async with (
        open_test_stream(response, path),
        open_test_stream(stream_inspector(group, authorize=allow), "/stream") as page,
    ):
        (row,) = (await receive_until(page, "streams"))["rows"].values()
    assert row["path"] == path[:199] + "\N{HORIZONTAL ELLIPSIS}"
    assert row["labels"] == {"user": r"ann\u202e\u200bnna\ufe0f\u3164"}


async def test_a_long_path_is_not_remembered(group):
    """Of a stream that has ended no more of the path is kept than can be shown."""
    sampler = Sampler(group)
    async with open_test_stream(EventSourceResponse(wait_forever, group=group), "/" + "a" * 60_000):
        pass
    assert [len(closed.stream.path) for closed in sampler.closed] == [300]


# --- the kick


async def test_kick(group):
    """A POST with the page's secret ends the stream of that number."""
    app = stream_inspector(group, authorize=allow)
    async with (
        open_test_stream(EventSourceResponse(wait_forever, group=group)) as stream,
        open_test_stream(app, "/stream") as page,
        client_of(app) as client,
    ):
        headers = {"x-inspector-token": (await receive_until(page, "hello"))["token"]}
        assert (await client.post("/kick/1", headers=headers)).status_code == 204
        await stream.wait_closed()
        assert stream.close_reason is CloseReason.KICKED
        for number in ("1", "9" * 5000, "-1", "x", "\N{ARABIC-INDIC DIGIT ONE}"):
            gone = await client.post(f"/kick/{number}", headers=headers)
            assert (gone.status_code, gone.text) == (404, "no such stream is open")


async def test_stop(group):
    """A POST with the page's secret stops the run of that key, whatever is in the key; without it, nothing."""
    key = "../kick/1?key=x&\N{SNOWMAN}"
    async with open_hub() as hub, open_runs(hub) as runs:
        await runs.start(key, wait_forever)
        app = stream_inspector(group, runs=runs, authorize=allow)
        async with open_test_stream(app, "/stream") as page, client_of(app) as client:
            headers = {"x-inspector-token": (await receive_until(page, "hello"))["token"]}
            assert (await client.post("/stop", params={"key": key})).status_code == 403
            elsewhere = await client.post(
                "/stop", params={"key": key}, headers={**headers, "sec-fetch-site": "same-site"}
            )
            assert elsewhere.status_code == 403
            assert (await runs.status(key)).state == "running"
            assert (await client.post("/stop", params={"key": key}, headers=headers)).status_code == 204
            assert (await runs.status(key)).state == "stopped"
            for params in ({"key": "unknown"}, {"key": ""}, {}):
                gone = await client.post("/stop", params=params, headers=headers)
                assert (gone.status_code, gone.text) == (404, "no such run is known")


async def test_there_may_be_no_runs(group):
    """An inspector without runs stops none."""
    app = stream_inspector(group, authorize=allow)
    async with open_test_stream(app, "/stream") as page, client_of(app) as client:
        headers = {"x-inspector-token": (await receive_until(page, "hello"))["token"]}
        assert (await receive_until(page, "totals"))["runs"] is None
        assert (await client.post("/stop", params={"key": "a"}, headers=headers)).status_code == 404
    with pytest.raises(TypeError, match="runs must be a Runs"):
        stream_inspector(group, runs="chats")


@pytest.mark.parametrize("headers", [{}, {"x-inspector-token": "guessed"}, {"x-inspector-token": "\N{SNOWMAN}"}])
async def test_a_kick_from_elsewhere(group, headers):
    """Without the secret, which only readers of the stream know, a kick is refused."""
    app = stream_inspector(group, authorize=allow)
    headers = {name: value.encode() for name, value in headers.items()}
    async with open_test_stream(EventSourceResponse(wait_forever, group=group)) as stream, client_of(app) as client:
        assert (await client.post("/kick/1", headers=headers)).status_code == 403
        await anyio.sleep(1)
        assert not stream.is_closed


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
async def test_a_kick_that_another_site_has_the_browser_send(group, site):
    """Even with the secret a browser's request is let through only if it says that it comes from this origin."""
    app = stream_inspector(group, authorize=allow)
    async with (
        open_test_stream(EventSourceResponse(wait_forever, group=group)) as stream,
        open_test_stream(app, "/stream") as page,
        client_of(app) as client,
    ):
        token = (await receive_until(page, "hello"))["token"]
        answer = await client.post("/kick/1", headers={"x-inspector-token": token, "sec-fetch-site": site})
        assert answer.status_code == 403
        assert not stream.is_closed


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
async def test_the_stream_is_for_no_other_origin(group, site, status):
    """A site that may read the application's answers reads no stream of the inspector, and so not its secret."""
    app = CORSMiddleware(
        stream_inspector(group, authorize=allow), allow_origins=["https://other.example"], allow_credentials=True
    )
    headers = {"origin": "https://other.example", "sec-fetch-site": site, "cookie": "session=1"}
    async with open_test_stream(app, "/stream", headers=headers) as page:
        assert page.status_code == status
        assert page.headers["access-control-allow-origin"] == "https://other.example"
        if status == 200:
            assert (await receive_until(page, "hello"))["token"]


async def test_each_inspector_has_a_secret_of_its_own(group):
    """The secret of one inspector is refused by another."""
    tokens = set()
    for _ in range(2):
        async with open_test_stream(stream_inspector(group, authorize=allow), "/stream") as page:
            tokens.add((await receive_until(page, "hello"))["token"])
    assert len(tokens) == 2
