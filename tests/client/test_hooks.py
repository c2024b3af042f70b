"""Hooks of the caller's httpx client that look at answers before the source does."""

from __future__ import annotations

import gzip

import anyio
import httpx
import pytest

from sse_trio.client import EventSourceError, open_event_source

pytestmark = pytest.mark.anyio


async def raise_(response):
    response.raise_for_status()


async def read_and_raise(response):
    if response.is_error:
        await response.aread()
    response.raise_for_status()


async def read(response):
    if response.is_error:
        await response.aread()


async def close(response):
    if response.is_error:
        await response.aclose()


HOOKS = pytest.mark.parametrize(
    ("hook", "content"),
    [(raise_, b""), (read_and_raise, b"why"), (read, b"why"), (close, b"")],
    ids=["raises", "reads and raises", "reads", "closes"],
)


def hooked(server, hook):
    return server.client(event_hooks={"response": [hook]})


@HOOKS
async def test_the_status_counts_whatever_a_hook_does(serve, stream, hook, content):
    """A hook that raises for a status, or reads an answer, changes neither what the status means nor the wait."""
    server = serve(stream("why", status=503), stream("why", status=401), stream("data: x\n\n"), stream(status=404))
    async with (
        hooked(server, hook) as client,
        open_event_source("/", client=client, retry=1, headers=lambda: {"a": "b"}) as source,
    ):
        assert (await anext(source)).data == "x"
        assert server.times[1] <= 1.2
        assert server.times[2] == server.times[1]
        with pytest.raises(EventSourceError, match="answered 404") as info:
            await anext(source)
    assert info.value.response.status_code == 404


@HOOKS
async def test_what_a_hook_has_read_is_in_the_error(serve, stream, hook, content):
    """The error has what the hook has read, and says that the body is cut short if the hook has closed it unread."""
    body = gzip.compress(b"why")
    server = serve(stream(body, status=404, content_encoding="gzip"))
    with pytest.raises(EventSourceError) as info:
        async with hooked(server, hook) as client, open_event_source("/", client=client):
            pytest.fail("opened")
    assert info.value.response.content == content
    assert info.value.is_truncated == (not content)
    assert anyio.current_time() == 0


async def test_a_body_that_was_read_is_not_read_from_the_connection_again(serve, stream):
    """When a hook has read an answer, its connection may serve another request: nothing more is read from it."""
    reads = []
    server = serve(stream(lambda: reads.append("once") or b"why", status=404))
    with pytest.raises(EventSourceError):
        async with hooked(server, read) as client, open_event_source("/", client=client):
            pytest.fail("opened")
    assert reads == ["once"]


async def test_a_stream_that_a_hook_has_read(serve, stream):
    """A stream with an end gives its events even if a hook reads every answer to its end."""

    async def read_everything(response):
        await response.aread()

    body = gzip.compress(b"data: x\n\ndata: y\n\n")
    server = serve(stream(body, content_encoding="gzip"), stream(status=204))
    async with hooked(server, read_everything) as client, open_event_source("/", client=client) as source:
        assert [event.data async for event in source] == ["x", "y"]


async def test_an_error_about_another_answer_comes_out(serve, stream):
    """A hook that raises about the answer to another request, to a token server for example, has its error raised."""
    request = httpx.Request("GET", "http://tokens")
    error = httpx.HTTPStatusError("no token", request=request, response=httpx.Response(503, request=request))

    async def fail(response):
        raise error

    server = serve(stream())
    with pytest.raises(httpx.HTTPStatusError, match="no token"):
        async with hooked(server, fail) as client, open_event_source("/", client=client):
            pytest.fail("opened")
