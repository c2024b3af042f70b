"""Answers that are not what the standard asks for: refused whole, accepted, cut off, too late, too large."""

from __future__ import annotations

import zlib

import anyio
import brotli
import httpx
import pytest

from sse_trio._compression.codings import ZSTD_MODULE
from sse_trio._errors import EventTooLargeError
from sse_trio.client import EventSourceError, _body, open_event_source
from sse_trio.client._answer import is_final_for_proxy
from sse_trio.client._reconnect import RETRY_STATUSES

zstd = pytest.importorskip(ZSTD_MODULE)
pytestmark = pytest.mark.anyio


async def read(server, **options):
    """The data of all events, and the source."""
    async with server.client() as client, open_event_source("/", client=client, **options) as source:
        return [event.data async for event in source], source


async def refusal_of(server, **options):
    with pytest.raises(EventSourceError) as info:
        await read(server, **options)
    return info.value


# --- Bodies of answers that are not a stream


async def test_a_json_answer_is_whole(serve, stream):
    """If a POST is answered with JSON instead of a stream, the error has the whole answer and says so."""
    body = '"' + "x" * 500_000 + '"'
    error = await refusal_of(serve(stream(body, content_type="application/json")), method="POST", json={})
    assert error.response.json() == "x" * 500_000
    assert not error.is_truncated
    assert "cut short" not in str(error)


async def test_an_answer_is_kept_up_to_a_limit(serve, stream):
    """max_answer_size is the exact limit of what is kept; the error says whether the answer is complete."""
    for size, is_truncated in ((9, True), (10, False), (11, False)):
        error = await refusal_of(serve(stream("0123456789", status=404)), max_answer_size=size)
        assert error.response.text == "0123456789"[:size]
        assert error.is_truncated is is_truncated


@pytest.mark.parametrize("coding", ["x-snappy", "compress"])
async def test_a_coding_that_cannot_be_decoded_is_refused_at_the_head(serve, stream, coding):
    """A stream in an unknown coding is an error at the head, instead of garbled text."""
    server = serve(stream("data: x\n\n", 1000, content_encoding=coding))
    error = await refusal_of(server)
    assert "can't be decoded; it can be gzip, deflate, br or zstd" in str(error)
    assert anyio.current_time() == 0
    assert len(server.requests) == 1


async def test_a_coding_whose_library_is_missing(serve, stream, monkeypatch):
    """If a library is missing for a coding, the error says what to install."""

    def refuse(coding):
        raise ImportError(f"no {coding}", name="brotli")

    monkeypatch.setattr(_body, "open_decompressor", refuse)
    error = await refusal_of(serve(stream("x", content_encoding="br")))
    assert "'br' needs brotli; install sse-trio[compress]" in str(error)


async def test_a_refusal_in_an_unknown_coding(serve, stream):
    """The body of a refusal in an unknown coding is kept as it came, and its header says so."""
    error = await refusal_of(serve(stream("abc", status=404, content_encoding="x-snappy")))
    assert error.response.content == b"abc"
    assert error.response.headers["content-encoding"] == "x-snappy"


# --- Bodies that end in the middle of their coding


class Gzip:
    def __init__(self, window_bits=31):
        self.packer = zlib.compressobj(wbits=window_bits)

    def pack(self, text):
        return self.packer.compress(text) + self.packer.flush(zlib.Z_SYNC_FLUSH)


class Deflate(Gzip):
    def __init__(self):
        super().__init__(15)


class Brotli:
    def __init__(self):
        self.packer = brotli.Compressor()

    def pack(self, text):
        return self.packer.process(text) + self.packer.flush()


class Zstd:
    def __init__(self):
        self.packer = zstd.ZstdCompressor()

    def pack(self, text):
        return self.packer.compress(text, self.packer.FLUSH_BLOCK)


PACKERS = {"gzip": Gzip, "deflate": Deflate, "br": Brotli, "zstd": Zstd}


@pytest.mark.parametrize("cut", [0, 40])
@pytest.mark.parametrize("coding", list(PACKERS))
async def test_a_body_that_ends_in_the_middle_of_its_coding(serve, stream, coding, cut):
    """A body that ends in the middle of its coding is a lost connection: the source resumes after the last event."""
    packer = PACKERS[coding]()
    pieces = [packer.pack(b"id: 1\ndata: one\n\n"), packer.pack(b"data: two " + bytes(range(256)) * 9 + b"\n\n")[:cut]]
    server = serve(stream(*pieces, content_encoding=coding), stream(status=204))
    errors = []
    data, _ = await read(server, on_state_change=lambda source: errors.append(source.error))
    assert data == ["one"]
    assert server.ids == [None, b"1"]
    assert [str(error) for error in errors if error] == [f"the body ended in the middle of its {coding} data"]


@pytest.mark.parametrize("coding", list(PACKERS))
async def test_a_cut_is_an_error_without_reconnecting(serve, stream, coding):
    """With reconnect=False, a stream that was cut off raises instead of ending normally."""
    server = serve(stream(PACKERS[coding]().pack(b"data: one\n\n"), content_encoding=coding))
    error = await refusal_of(server, reconnect=False)
    assert "in the middle" in str(error)


# --- Answers that are accepted


@pytest.mark.parametrize(
    ("status", "content_type"),
    [(201, "text/event-stream"), (200, ""), (200, "application/json, text/event-stream; charset=utf-8")],
)
async def test_accept(serve, stream, status, content_type):
    """accept= lets you accept an answer that the standard doesn't, by its status and headers."""
    asked = []

    def accept(response):
        asked.append((response.status_code, response.headers.get("content-type", "")))
        return True

    server = serve(stream("data: x\n\n", status=status, content_type=content_type), stream(status=204))
    data, _ = await read(server, accept=accept)
    assert data == ["x"]
    assert asked == [(status, content_type)]  # not the 204
    assert (await refusal_of(serve(stream(status=status, content_type=content_type)), accept=lambda _: False)).response


async def test_accept_returns_a_bool(serve, stream):
    """An accept function that is async, or returns no bool, is an error, because it would accept everything."""

    async def accept(_):
        return False

    for wrong in (lambda _: accept(None), lambda _: 1):
        with pytest.raises(TypeError, match="True or False"):
            await read(serve(stream(status=404)), accept=wrong)


# --- Answers that don't come


async def test_head_timeout(serve, stream):
    """A server that doesn't answer within head_timeout is asked again; silence after the head doesn't count."""
    server = serve(stream(), stream("data: x\n\n", 100, "data: y\n\n"), stream(status=204))
    server.answers[0].after = 1000
    errors = []
    data, _ = await read(server, head_timeout=10, on_state_change=lambda source: errors.append(source.error))
    assert data == ["x", "y"]
    assert str(errors[1]) == "no answer came for 10 s"


async def test_head_timeout_by_default(serve, stream):
    """By default a head may take two minutes, longer than proxies wait; None waits for ever."""
    server = serve(stream())
    server.answers[0].after = 1000
    await refusal_of(server, reconnect=False)
    assert anyio.current_time() == 120
    with anyio.move_on_after(900) as scope:
        await read(server, reconnect=False, head_timeout=None)
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_timeout": 0}, "head_timeout must be a positive"),
        ({"max_answer_size": -1}, "max_answer_size must be an int"),
    ],
)
async def test_limits_that_make_no_sense(options, message):
    """A limit that makes no sense raises at once."""
    with pytest.raises(ValueError, match=message):
        async with open_event_source("http://test/", **options):
            pass


# --- Proxies


@pytest.mark.parametrize(
    ("message", "is_final"),
    [("407 Proxy Authentication Required", True), ("403 Forbidden", True), ("503 Busy", False), ("no route", False)],
)
async def test_a_proxy_that_refuses(serve, stream, answer, message, is_final):
    """A proxy that asks for a password, or forbids, is final; a busy one is tried again."""
    server = serve(answer(error=httpx.ProxyError(message)), stream(status=204))
    if is_final:
        assert isinstance((await refusal_of(server)).__cause__, httpx.ProxyError)
    else:
        await read(server)
    assert len(server.requests) == 2 - is_final
    assert not is_final_for_proxy(httpx.ConnectError("407"), RETRY_STATUSES)


# --- Events that are too large, or unfinished


@pytest.mark.parametrize("id_comes", ["first", "last"])
async def test_skipping_what_is_too_large(serve, stream, id_comes, caplog):
    """An oversized event is skipped, counted and logged, and a reconnection goes on after it."""
    fields = ["id: 2\n", "data: " + "x" * 100 + "\n"]
    large = "".join(fields if id_comes == "first" else reversed(fields)) + "\n"
    server = serve(stream("id: 1\ndata: a\n\n", large), stream("data: c\n\n"), stream(status=204))
    data, source = await read(server, max_event_size=50, skip_too_large=True)
    assert data == ["a", "c"]
    assert source.skipped == 1
    assert server.ids == [None, b"2", b"2"]
    assert "skipped 1 events of more than 50 bytes" in caplog.text


async def test_going_on_after_what_is_too_large(serve, stream):
    """Without skipping, the error has the id of the oversized event, so that you can resume after it."""
    for start, event_id in (("id: 2\n", "2"), ("", None)):
        server = serve(stream("id: 1\ndata: a\n\n", start + "data: " + "x" * 100 + "\n\n"))
        with pytest.raises(EventTooLargeError, match="skip_too_large=True") as info:
            await read(server, max_event_size=50)
        assert info.value.event_id == event_id


@pytest.mark.parametrize("tail", ["data: last", "data: last\n", "data: last\r", "event: message\ndata: last"])
@pytest.mark.parametrize("is_taken", [False, True])
async def test_a_last_event_without_its_blank_line(serve, stream, tail, is_taken):
    """An unfinished last event is dropped, as the standard says, or returned if you ask for it."""
    server = serve(stream("data: first\n\n", tail))
    data, _ = await read(server, method="POST", take_unfinished=is_taken)
    assert data == ["first", "last"] if is_taken else ["first"]


async def test_a_broken_connection_finishes_no_event(serve, stream):
    """An event that a broken connection cuts off is never returned."""
    server = serve(stream("data: first\n\ndata: half", httpx.ReadError("reset")), stream(status=204))
    data, _ = await read(server, take_unfinished=True)
    assert data == ["first"]
