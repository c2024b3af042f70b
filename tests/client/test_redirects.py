"""What goes along on a redirect: everything to the origin that was asked and to those trusted, little to others."""

from __future__ import annotations

import httpx
import pytest

from sse_trio.client import EventSourceError, open_event_source

pytestmark = pytest.mark.anyio

SECRETS = {"authorization": "Bearer A", "x-api-key": "KEY", "cookie": "a=HEADER", "proxy-authorization": "Basic B"}
SAFE = {"accept", "accept-encoding", "cache-control", "connection", "host", "user-agent"}


@pytest.fixture
def redirected(serve, stream):
    """Open a source on a server that redirects to these places in turn, and return the last request."""

    async def open_source(*locations, status=307, base="http://test", **options):
        hops = [stream(status=status, content_type="", location=location) for location in locations]
        server = serve(*hops, stream("data: x\n\n"))
        cookies = {"b": "CLIENT"}
        async with (
            server.client(cookies=cookies, headers={"x-of-client": "C"}) as client,
            open_event_source(f"{base}/s", client=client, reconnect=False, last_event_id="7", **options) as source,
        ):
            assert [event.data async for event in source] == ["x"]
        assert len(server.requests) == 1 + len(locations)
        return server.requests[-1]

    return open_source


ELSEWHERE = ["http://other/", "http://test:81/", "https://other/", "https://test:444/", "http://sub.test/"]


@pytest.mark.parametrize("location", ELSEWHERE)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_another_origin_gets_nothing_secret(redirected, location, status):
    """Another host, port or scheme gets only the headers of a safe list: no cookies, credentials or id."""
    request = await redirected(location, status=status, headers=SECRETS)
    assert set(request.headers) <= SAFE


async def test_https_to_http_gets_nothing_secret(redirected):
    """The same host over plain http is another origin."""
    request = await redirected("http://test/", base="https://test", headers=SECRETS)
    assert set(request.headers) <= SAFE


@pytest.mark.parametrize("back", ["/again", "http://test/back", "https://test/back"])
async def test_what_was_left_out_stays_out(redirected, back):
    """After another origin, later hops get nothing secret either, even back at the first origin."""
    request = await redirected("http://other/", back, headers=SECRETS)
    assert set(request.headers) <= SAFE


KEPT = {
    "authorization": "Bearer A",
    "x-api-key": "KEY",
    "proxy-authorization": "Basic B",
    "x-of-client": "C",
    "last-event-id": "7",
    "cookie": "b=CLIENT",
}


@pytest.mark.parametrize("location", ["/same", "http://test:80/same", "https://test/same"])
async def test_the_same_origin_gets_everything(redirected, location):
    """The original origin, and the same host over https, get everything the first request had."""
    request = await redirected(location, method="POST", json={"a": 1}, headers=SECRETS)
    assert {name: request.headers.get(name) for name in KEPT} == KEPT
    assert request.content == b'{"a":1}'


@pytest.mark.parametrize(
    ("origin", "location"),
    [
        ("http://other", "http://other/s"),
        ("http://OTHER/", "http://other:80/s"),
        ("http://other:8080", "http://other:8080/s"),
        ("https://[::1]:444", "https://[::1]:444/s"),
        ("https://*.example.org", "https://a.b.example.org/s"),
    ],
)
async def test_a_trusted_origin_gets_everything(redirected, origin, location):
    """An origin that you trust gets everything: headers, cookies, id and body."""
    request = await redirected(
        location, method="POST", json={"a": 1}, headers=SECRETS, trusted_origins=["https://none", origin]
    )
    assert str(request.url) == str(httpx.URL(location))
    assert {name: request.headers.get(name) for name in KEPT} == KEPT
    assert request.content == b'{"a":1}'


async def test_trust_without_an_authorization(redirected):
    """A request without Authorization has none at a trusted origin either."""
    request = await redirected("http://other/", trusted_origins={"http://other"})
    assert "authorization" not in request.headers
    assert request.headers["last-event-id"] == "7"


@pytest.mark.parametrize(
    ("origin", "location"),
    [
        ("https://other", "http://other/"),
        ("http://other:81", "http://other/"),
        ("https://*.example.org", "https://example.org/"),
        ("https://*.example.org", "https://notexample.org/"),
        ("https://*.example.org", "http://a.example.org/"),
    ],
)
async def test_trust_is_exact(redirected, origin, location):
    """An origin is scheme, host and port; a wildcard matches only names below it."""
    request = await redirected(location, headers=SECRETS, trusted_origins=[origin])
    assert set(request.headers) <= SAFE


@pytest.mark.parametrize(("method", "status"), [("POST", 307), ("POST", 308), ("REPORT", 301), ("GET", 302)])
@pytest.mark.parametrize("location", ["http://other/x?code=SECRET", "http://u:SECRET@other/"])
async def test_a_body_goes_to_no_other_origin(serve, stream, method, status, location):
    """A redirect that would send the body elsewhere is a final error that says how to allow it."""
    server = serve(stream(status=status, content_type="", location=location))
    with pytest.raises(EventSourceError, match=r"another origin.*trusted_origins=\['http://other'\]") as info:
        async with (
            server.client() as client,
            open_event_source("/", client=client, method=method, content="SECRET", reconnect=True),
        ):
            pytest.fail("opened")
    assert len(server.requests) == 1
    assert "SECRET" not in str(info.value)


async def test_a_post_without_a_body_is_redirected(redirected):
    """A POST without a body follows redirects to other origins."""
    request = await redirected("http://other:8080/", method="POST")
    assert (request.method, request.headers["content-length"]) == ("POST", "0")


async def test_what_is_left_out_is_logged(redirected, caplog):
    """The log says which headers another origin doesn't get and how to change that, without their values."""
    caplog.set_level("INFO", "sse_trio.client")
    await redirected("http://u:PASSWORD@other/?code=TOKEN", headers={"x-api-key": "KEY"})
    lines = [record.getMessage() for record in caplog.records if "redirected" in record.getMessage()]
    (line,) = lines
    assert line == (
        "redirected from 'http://test' to another origin, 'http://other', which doesn't get 'cookie', "
        "'last-event-id', 'x-api-key', 'x-of-client'; trusted_origins= allows it"
    )


@pytest.mark.parametrize(
    "location",
    ["http://u:SECRET@a..b/?code=SECRET", "http://u:SECRET/x@b/", "http://u:p@b:SECRET/"],
)
async def test_no_message_quotes_a_location(serve, stream, caplog, location):
    """No log line and no error quotes more of a Location than its origin, because it may contain a password."""
    server = serve(stream(status=302, content_type="", location=location))
    with pytest.raises(EventSourceError) as info:
        async with server.client() as client, open_event_source("/", client=client, reconnect=False):
            pytest.fail("opened")
    assert "SECRET" not in str(info.value)
    server = serve(stream(status=302, content_type="", location=location), stream(status=204))
    async with server.client() as client, open_event_source("/", client=client):
        pass
    lines = [record.getMessage() for record in caplog.records if "sse_trio" in record.name]
    assert "Location" in lines[0]
    assert "SECRET" not in "".join(lines)
