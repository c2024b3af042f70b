"""The client against tests/data/client_behaviours.json: each statement has a test here, or a reason why not."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import httpx
import pytest

from sse_trio.client import ConnectionState, EventSourceError, open_event_source

pytestmark = pytest.mark.anyio

STATEMENTS = json.loads((Path(__file__).parents[1] / "data" / "client_behaviours.json").read_text())
BY_ID = {statement["id"]: statement for statement in STATEMENTS}
EXCLUDED = {
    "cors-origin": "CORS is what a browser does to protect its user; there is no page and no origin here",
    "cors-preflight": "as cors-origin; that servers can be asked with OPTIONS first is for the application to arrange",
    "comments-api": "comments are not exposed: they are no part of what an EventSource sees",
}
COVERED = set()

CONNECTING, OPEN, CLOSED = ConnectionState.CONNECTING, ConnectionState.OPEN, ConnectionState.CLOSED


def covers(*ids):
    """Mark a test as the one for these statements."""
    assert set(ids) <= BY_ID.keys() - EXCLUDED.keys()
    COVERED.update(ids)
    return lambda function: function


def test_every_statement_has_a_test_or_a_reason():
    """Every statement is either tested or left out with a reason."""
    assert len(BY_ID) == 42
    assert EXCLUDED.keys() | COVERED == BY_ID.keys()
    assert not EXCLUDED.keys() & COVERED


class Run:
    """What an event source did from its opening to its end."""

    def __init__(self):
        self.events = []
        self.states = []
        self.errors = []
        self.error = None

    def note(self, source):
        self.states.append(source.state)
        self.errors.append(source.error)


async def run(server, url="/", *, until=None, **options):
    """Take all events that come within ``until`` seconds, and note the states and the error."""
    outcome = Run()
    with anyio.move_on_after(until):
        try:
            async with (
                server.client(cookies=options.pop("cookies", None), auth=options.pop("auth", None)) as client,
                open_event_source(url, client=client, on_state_change=outcome.note, **options) as source,
            ):
                async for event in source:
                    outcome.events.append(event)
        except EventSourceError as error:
            outcome.error = error
    return outcome


def data_of(outcome):
    return [event.data for event in outcome.events]


@covers("accept-header", "cache-control-header", "default-method")
async def test_the_request(serve, stream):
    """The request is a GET with Accept and Cache-Control; the first one has no Last-Event-ID."""
    server = serve(stream("id: 1\n\n"), stream(status=204))
    await run(server)
    assert [request.method for request in server.requests] == ["GET", "GET"]
    assert [request.headers.get_list("accept") for request in server.requests] == [["text/event-stream"]] * 2
    assert [request.headers.get_list("cache-control") for request in server.requests] == [["no-cache"]] * 2
    assert server.ids == [None, b"1"]


@covers("status-200-only")
@pytest.mark.parametrize("status", [*BY_ID["status-200-only"]["statuses"], 400, 500, 502])
async def test_other_statuses_fail(serve, stream, status):
    """Any status but 200 ends the source after one request: 204 is a clean end, any other an error."""
    server = serve(stream("data: x\n\n", status=status))
    outcome = await run(server, retry_statuses=())
    assert len(server.requests) == 1
    assert outcome.events == []
    assert outcome.states == [CONNECTING, CLOSED]
    if status == 204:
        assert outcome.error is None
    else:
        assert outcome.error.response.status_code == status


@covers("status-204-stops")
async def test_204_stops(serve, stream):
    """A 204 at a reconnection ends the iteration, and no further request is made."""
    server = serve(stream("data: x\n\n"), stream(status=204))
    outcome = await run(server)
    assert data_of(outcome) == ["x"]
    assert outcome.states[-1] is CLOSED
    assert outcome.error is None
    assert len(server.requests) == 2


@covers("content-type-required")
@pytest.mark.parametrize("content_type", [*BY_ID["content-type-required"]["bad"], "", "text/event-streams"])
async def test_other_content_types_fail(serve, stream, content_type):
    """A 200 with another content type is an error after one request."""
    server = serve(stream("data: x\n\n", content_type=content_type))
    outcome = await run(server)
    assert len(server.requests) == 1
    assert outcome.events == []
    assert outcome.states == [CONNECTING, CLOSED]
    assert repr(content_type) in str(outcome.error)


@covers("content-type-parameters", "always-utf8")
@pytest.mark.parametrize(
    "content_type", [*BY_ID["content-type-parameters"]["good"], "text/event-stream;charset=windows-1252"]
)
async def test_parameters_and_case_of_the_content_type(serve, stream, content_type):
    """The content type's parameters and case don't matter, and the body is always UTF-8."""
    server = serve(stream("data: ok\u2026\n\n", content_type=content_type), stream(status=204))
    assert data_of(await run(server)) == ["ok\u2026"]


def redirect(stream, status, location):
    return stream(status=status, content_type="", location=location)


@covers("redirects", "redirect-origin", "redirect-reconnect-url")
@pytest.mark.parametrize("status", BY_ID["redirects"]["statuses"])
async def test_redirects(serve, stream, status):
    """A redirect is followed, the response shows where to, and each reconnection starts at the original URL."""
    to = redirect(stream, status, "http://other/stream")
    server = serve(to, stream("data: x\n\n"), to, stream("data: y\n\n"), stream(status=204))
    urls = []
    async with (
        server.client() as client,
        open_event_source("/start", client=client, on_state_change=lambda _: urls.append(None)) as source,
    ):
        async for event in source:
            urls.append((event.data, str(source.response.url)))  # noqa: PERF401 -- in order with the states
    assert [url for url in urls if url] == [("x", "http://other/stream"), ("y", "http://other/stream")]
    requested = [str(request.url) for request in server.requests]
    assert requested == ["http://test/start", "http://other/stream"] * 2 + ["http://test/start"]
    assert urls.count(None) == 6  # CONNECTING, OPEN; twice; CONNECTING, CLOSED: a redirect is no state


@covers("redirect-auth-drop")
async def test_authorization_stays_with_its_origin(serve, stream):
    """Authorization follows a redirect to the same origin only, whether it comes from auth or from a header."""
    for options in ({"auth": ("user", "pass")}, {"headers": {"authorization": "Basic dXNlcjpwYXNz"}}):
        server = serve(
            redirect(stream, 307, "/same"), redirect(stream, 307, "http://other/"), stream(), stream(status=204)
        )
        await run(server, **options)
        sent = [request.headers.get("authorization") for request in server.requests]
        assert sent == ["Basic dXNlcjpwYXNz"] * 2 + [None, "Basic dXNlcjpwYXNz"]


@covers("redirect-no-location")
@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize("headers", [{}, {"location": ""}, {"location": " "}])
async def test_a_redirect_to_nowhere_fails(serve, stream, status, headers):
    """A redirect without a Location, or with an empty one, is an error after one request."""
    server = serve(stream(status=status, content_type="", **headers))
    outcome = await run(server)
    assert len(server.requests) == 1
    assert outcome.error.response.status_code == status


@pytest.mark.parametrize(
    "location",
    [
        "http://a..b/",
        f"http://{'a' * 64}/",
        "http://a b:c/",
        "http://a b/",
        "http://a:65536/",
        "http://xn--/",
        "//xn--a",
        "https://xn--mnchen-3ya.de_/",
        "data:text/event-stream,x",
        "mailto:a@b",
    ],
)
async def test_a_redirect_to_no_host(serve, stream, location):
    """A Location that leads nowhere, whatever is wrong with it, is a broken answer; the original URL is tried again."""
    server = serve(redirect(stream, 307, location), stream("data: x\n\n"), stream(status=204))
    outcome = await run(server)
    assert [str(request.url) for request in server.requests] == ["http://test/"] * 3
    assert outcome.error is None


async def test_endless_redirects_fail(serve, stream):
    """More redirects than the client's max_redirects are an error."""
    server = serve(lambda request: redirect(stream, 302, f"{request.url.path}x"))
    outcome = await run(server)
    assert len(server.requests) == 21
    assert outcome.error.response.status_code == 302


@covers("reconnect-on-eof", "no-open-before-headers", "state-sequence")
@pytest.mark.parametrize("break_", [(), (httpx.ReadError("reset"),), (httpx.RemoteProtocolError("incomplete"),)])
async def test_states(serve, stream, break_):
    """The state is CONNECTING, OPEN after the head, CONNECTING after the connection ends, and CLOSED after a 204."""
    server = serve(stream(7, "data: x\n\n", *break_), stream("data: y\n\n", *break_), stream(status=204))
    log = []
    async with (
        server.client() as client,
        open_event_source("/", client=client, on_state_change=lambda source: log.append(source.state)) as source,
    ):
        log.append(anyio.current_time())
        async for event in source:
            log.append(event.data)  # noqa: PERF401 -- in order with the states
    assert log == [CONNECTING, OPEN, 0, "x", CONNECTING, OPEN, "y", CONNECTING, CLOSED]


@covers("retry-honoured", "retry-without-blank-line", "retry-empty", "retry-overflow")
@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ("retry: 03000\n", 3.0),
        ("retry: 3000\nretry: 1000x\n", 3.0),
        ("retry: 1000\nretry: 5000x\n", 1.0),
        ("retry: 700\n\nretry: 400\n", 0.4),
        ("retry: 1000\nretry\nretry:\n", 1.0),
        ("retry: 300\nretry: " + "9" * 26 + "\n", 0.3),
        ("retry: 300000\n", 300.0),
        ("retry: 9999999999\n", 21_600.0),
        ("", 5.0),
    ],
)
@pytest.mark.parametrize("event", ["data: x\n\n", ""])
async def test_retry(serve, stream, lines, seconds, event):
    """The wait is the stream's last valid retry, or otherwise the one that you gave."""
    server = serve(stream(event + lines), stream(status=204))
    await run(server, retry=5.0, max_retry=60)
    assert seconds <= server.waits[0] <= seconds * 1.25


@covers("last-event-id-header", "last-event-id-utf8", "last-event-id-empty-resets", "last-event-id-nul-ignored")
@covers("last-event-id-without-data", "last-event-id-incomplete-event")
@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ("id: X\ndata: x\n\n", b"X"),
        ("id: \u2026\ndata: x\n\n", b"\xe2\x80\xa6"),
        ("id: 1\ndata: x\n\nid:\ndata: y\n\n", None),
        ("id: 1\ndata: x\n\nid\ndata: y\n\n", None),
        ("id: X\0\ndata: x\n\n", None),
        ("id: 7\n\n", b"7"),
        ("id: 1\ndata: x\n\nid: 2\ndata: y\n", b"1"),
        ("id: 1\ndata: x\n\nid: 2\ndata: y", b"1"),
        ("id:  a b  \ndata: x\n\n", b"a b"),
    ],
)
async def test_last_event_id(serve, stream, body, sent):
    """The reconnection sends the id of the last blank line in UTF-8, or no header if the id is empty."""
    server = serve(stream(body), stream("data: z\n\n"), stream(status=204))
    outcome = await run(server)
    assert server.ids == [None, sent, sent]
    assert outcome.events[-1].data == "z"


@covers("last-event-id-persists-over-reconnect", "last-event-id-preset")
async def test_last_event_id_over_connections(serve, stream):
    """An id that you give is sent with the first request; an id stays valid for later events that set none."""
    server = serve(stream("data: x\n\n"), stream("id: X\ndata: y\n\n"), stream("data: z\n\n"), stream(status=204))
    outcome = await run(server, last_event_id="P")
    assert server.ids == [b"P", b"P", b"X", b"X"]
    assert outcome.events == [("message", "x", "P"), ("message", "y", "X"), ("message", "z", "X")]


@pytest.mark.parametrize("control", ["\v", "\f", "\x01", "\x1f", "\x7f"])
async def test_an_id_that_no_header_can_carry(serve, stream, control):
    """An id that a header can't carry stays the event's id, and the reconnection sends no id at all."""
    server = serve(stream(f"id: a{control}b\ndata: x\n\n"), stream("id: a\tb\ndata: y\n\n"), stream(status=204))
    outcome = await run(server, last_event_id="P", headers={"last-event-id": "Q"})
    assert outcome.events == [("message", "x", f"a{control}b"), ("message", "y", "a\tb")]
    assert server.ids == [b"P", None, b"a\tb"]


@covers("close-stops")
async def test_close_stops(serve, stream):
    """After close(), even from on_state_change, the source is CLOSED and makes no further request."""
    server = serve(stream("data: x\n\ndata: y\n\n", 1, "data: z\n\n"))
    async with server.client() as client, open_event_source("/", client=client) as source:
        assert (await anext(source)).data == "x"
        source.close()
        assert source.state is CLOSED
        assert [event async for event in source] == []
        source.restart()
        assert [event async for event in source] == []
        assert server.open_bodies == 0
    assert len(server.requests) == 1

    def close_when_lost(source):
        if source.state is CONNECTING and source.attempt == 2:
            source.close()

    async with (
        server.client() as client,
        open_event_source("/", client=client, on_state_change=close_when_lost) as source,
    ):
        assert [event.data async for event in source] == ["x", "y", "z"]
    assert len(server.requests) == 2


@covers("cancel-while-connecting")
async def test_cancelling_while_connecting(serve, stream):
    """A source that is cancelled while it connects is CLOSED and makes no further request."""
    server = serve(stream("data: x\n\n"))
    server.answers[0].after = 10
    outcome = await run(server, until=5)
    await anyio.sleep(100)
    assert outcome.events == []
    assert outcome.states == [CONNECTING, CLOSED]
    assert len(server.requests) == 1


@covers("credentials")
async def test_cookies(serve, stream):
    """A cookie that a response set is sent with the next request, through the client's jar."""
    server = serve(stream("id: 1\nretry: 200\ndata: x\n\n", set_cookie="a=b"), stream(status=204))
    await run(server)
    assert [request.headers.get("cookie") for request in server.requests] == [None, "a=b"]


@covers("bad-url")
async def test_bad_urls(serve, stream):
    """A malformed URL raises at once; a scheme other than HTTP's is an error without a request."""
    server = serve(stream())
    for url in ("http://this is invalid/", "http://[/", "http://a:b/", "http://a%00b/", "http://a^b/", "http://\0/"):
        with pytest.raises(httpx.InvalidURL):
            await run(server, url)
    for host in ("a..b", "a" * 64, "a:65536", "xn--"):  # getaddrinfo() and httpx would raise other errors
        with pytest.raises(httpx.InvalidURL, match="Invalid host or port"):
            await run(server, f"http://{host}/")
    for url in ("ftp://test/", "about:blank", "mailto:a@b", "//"):
        with pytest.raises(EventSourceError) as info:
            async with open_event_source(url):
                pytest.fail("opened")
        assert isinstance(info.value.__cause__, httpx.UnsupportedProtocol)
    assert server.requests == []


@covers("custom-headers", "post-report")
@pytest.mark.parametrize("method", ["POST", "REPORT"])
@pytest.mark.parametrize(
    "body", [{"json": {"a": 1}}, {"content": b'{"a":1}', "headers": {"content-type": "application/json"}}]
)
async def test_headers_and_body_with_every_request(serve, stream, method, body):
    """Every request has the same headers, method and body."""
    server = serve(stream("data: x\n\n"), stream("data: y\n\n"), stream(status=204))
    body = body | {"headers": {"x-a": "b"} | body.get("headers", {})}
    await run(server, method=method, reconnect=True, params={"q": "r"}, **body)
    sent = [
        (request.method, str(request.url), request.content, request.headers["content-type"], request.headers["x-a"])
        for request in server.requests
    ]
    assert sent == [(method, "http://test/?q=r", b'{"a":1}', "application/json", "b")] * 3


@covers("read-timeout")
async def test_idle_timeout(serve, stream):
    """idle_timeout seconds of silence end the connection; any byte, even of a comment, restarts the time."""
    server = serve(stream("data: x\n\n", *[0.4, ":\n"] * 10, 0.6, "data: y\n\n"), stream(status=204))
    outcome = await run(server, idle_timeout=0.5, retry=0)
    assert data_of(outcome) == ["x"]
    assert server.times == [0, pytest.approx(4.6, abs=0.021)]
    assert [str(error) for error in outcome.errors if error] == ["no byte came for 0.5 s"]


@covers("restart")
async def test_restart(serve, stream):
    """restart() drops the connection and reconnects at once, to the same URL and after the same event."""
    server = serve(stream("id: 1\ndata: x\n\n", 100, "data: y\n\n"), stream("data: z\n\n", 100), stream(status=204))
    async with server.client() as client, open_event_source("/a", client=client) as source:
        assert (await anext(source)).data == "x"
        source.restart()
        assert (await anext(source)).data == "z"
        assert server.open_bodies == 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(iterate_to_the_end, source)
            await anyio.sleep(3)
            source.restart()
    assert server.times == [0, 0, 3]
    assert [str(request.url) for request in server.requests] == ["http://test/a"] * 3
    assert server.ids == [None, b"1", b"1"]


async def iterate_to_the_end(source):
    async for _ in source:
        pytest.fail("an event")


@covers("large-message")
@pytest.mark.parametrize("size", [5 * 2**20, 10 * 2**20])
@pytest.mark.parametrize("chunks", [1, 2])
async def test_large_messages(serve, stream, size, chunks):
    """Megabytes of data arrive whole if max_event_size allows them."""
    body = b"data: " + b"x" * size + b"\n\n"
    cut = len(body) // chunks + 1
    server = serve(stream(*[body[i : i + cut] for i in range(0, len(body), cut)]), stream(status=204))
    assert [len(data) for data in data_of(await run(server, max_event_size=2**24))] == [size]


@covers("order")
async def test_order(serve, stream):
    """A hundred events in one chunk arrive in order."""
    server = serve(stream("".join(f"data: {n}\n\n" for n in range(100))), stream(status=204))
    assert data_of(await run(server)) == [str(n) for n in range(100)]


@covers("network-error-reconnects")
@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.ConnectTimeout("")])
async def test_network_errors(serve, stream, answer, error):
    """A network error is retried, also on the first connection."""
    server = serve(
        answer(error=error), stream("data: x\n\n"), answer(error=error), answer(error=error), stream(status=204)
    )
    outcome = await run(server)
    assert data_of(outcome) == ["x"]
    assert len(server.requests) == 5
    assert outcome.states == [CONNECTING] * 2 + [OPEN] + [CONNECTING] * 3 + [CLOSED]
