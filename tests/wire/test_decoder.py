"""EventDecoder: the rules of WHATWG HTML 9.2.6, one promise a test."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from sse_trio._errors import EventTooLargeError, SSEError
from sse_trio._wire.decoder import EventDecoder
from sse_trio._wire.received import ReceivedEvent

HERE = Path(__file__).parents[1]
VECTORS = json.loads((HERE / "data" / "wpt_vectors.json").read_text())
decode = runpy.run_path(str(HERE / "decoder_adapter.py"))["decode"]


def chunkings(stream):
    """The stream whole, byte by byte, in pairs, cut at every index, and with empty chunks in between."""
    yield [stream]
    yield [stream[i : i + 1] for i in range(len(stream))]
    yield [stream[i : i + 2] for i in range(0, len(stream), 2)]
    yield from ([stream[:i], b"", stream[i:]] for i in range(1, len(stream)))


def feed_all(decoder, chunks):
    return [event for chunk in chunks for event in decoder.feed(chunk)]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_web_platform_tests(vector):
    """Each web-platform-tests case gives its events, ids and reconnection time, however it is cut."""

    def run(chunks):
        events = []
        stream = decode(chunks, vector.get("content_type", "text/event-stream"))
        while True:
            try:
                kind, data, event_id, _ = next(stream)
            except StopIteration as end:
                return events, end.value
            events.append({"type": kind, "data": data, "last_event_id": event_id})

    for chunks in chunkings(bytes.fromhex(vector["input_bytes_hex"])):
        events, state = run(chunks)
        assert events == vector["expected_events"]
        assert state["retry_ms"] == vector["expected_retry_ms"]
        assert state["last_event_id"] == vector["expected_last_event_id"]


CASES = {
    "nothing": (b"", []),
    "no space after the colon": (b"event:a\nid:1\ndata:x: y\n\n", [("a", "x: y", "1")]),
    "one space of two removed": (b"data:  x\n\n", [("message", " x", "")]),
    "a colon in the value": (b"data: a: b\ndata:: c\n\n", [("message", "a: b\n: c", "")]),
    "names alone": (b"data\nevent\nid\n\n", [("message", "", "")]),
    "an unknown name": (b"datax: 1\ndat: 2\n data: 3\nDATA: 4\n\n", []),
    "a comment with fields in it": (b": data: x\n:data: y\n\n", []),
    "an event name without data": (b"event: a\n\ndata: x\n\n", [("message", "x", "")]),
    "an empty event name": (b"event: a\nevent:\ndata: x\n\n", [("message", "x", "")]),
    "the last event name": (b"event: a\nevent: b\ndata: x\n\n", [("b", "x", "")]),
    "an id without data": (b"id: 1\n\ndata: x\n\n", [("message", "x", "1")]),
    "an id that is taken back": (b"id: 1\ndata: x\n\nid\ndata: y\n\n", [("message", "x", "1"), ("message", "y", "")]),
    "an id with NUL": (b"id: 1\nid: 2\0\ndata: x\n\n", [("message", "x", "1")]),
    "other line breaks": (
        "data: \x0b\x0c\x1c\x85\u2028\u2029\n\n".encode(),
        [("message", "\x0b\x0c\x1c\x85\u2028\u2029", "")],
    ),
    "invalid UTF-8": (b"data: \xff\xe2\x80\ndata: \xe2\n\n", [("message", "\ufffd\ufffd\n\ufffd", "")]),
    "a byte order mark later on": (b"data: \xef\xbb\xbfx\n\n", [("message", "\ufeffx", "")]),
    "half a byte order mark": (b"\xef\xbbdata: x\n\ndata: y\n\n", [("message", "y", "")]),
    "an event cut off": (b"data: x\n\ndata: y\n", [("message", "x", "")]),
    "a line cut off": (b"data: x\n\ndata: y", [("message", "x", "")]),
    "CR, LF and CRLF mixed": (b"data: x\rdata: y\r\n\r\ndata: z\n\r", [("message", "x\ny", ""), ("message", "z", "")]),
    "blank lines": (b"\n\r\n\rdata: x\n\n\n\ndata: y\r\r\r\n", [("message", "x", ""), ("message", "y", "")]),
    "a run of one-line events": (
        b"data: x\n\ndata: \n\ndata: z\n\n",
        [("message", value, "") for value in ("x", "", "z")],
    ),
    "nearly such a run": (b"data: x\n\ndata: y\ndata: z\n\n\n", [("message", "x", ""), ("message", "y\nz", "")]),
    "a run under an id": (b"id: 1\n\ndata: x\n\ndata: y\n\n", [("message", "x", "1"), ("message", "y", "1")]),
    "a run after half an event": (b"event: a\ndata: x\n\ndata: y\n\n", [("a", "x", ""), ("message", "y", "")]),
}


@pytest.mark.parametrize(("stream", "expected"), CASES.values(), ids=CASES.keys())
def test_fields_and_lines(stream, expected):
    """Each rule on lines, fields and dispatch holds however the stream is cut."""
    for chunks in chunkings(stream):
        assert feed_all(EventDecoder(), chunks) == expected


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("space", [b" ", b""])
def test_long_lines(end, space):
    """Lines of many kilobytes, which take another path than short ones, follow the same rules."""
    text = "\u00e9 : x" * 3000
    long = text.encode()
    lines = [b"event:" + space + b"a", b":" + space + long, b"data:" + space + long, b"data:" + space + b"b", long]
    stream = end.join([*lines, b"data", b"id:" + space + long, b"", b"data: " + long, b"", b""])
    expected = [("a", f"{text}\nb\n", text), ("message", text, text)]
    for size in (1, 100, 1000, 65536, len(stream)):
        chunks = [stream[i : i + size] for i in range(0, len(stream), size)]
        assert feed_all(EventDecoder(), chunks) == expected


def test_many_short_lines_of_one_event():
    """An event of thousands of lines that arrive a few at a time is joined on the way, and comes out the same."""
    lines = [str(number) for number in range(5000)]
    chunks = ["".join(f"data: {line}\n" for line in lines[i : i + 7]).encode() for i in range(0, 5000, 7)]
    assert feed_all(EventDecoder(), [*chunks, b"\n"]) == [("message", "\n".join(lines), "")]


def test_a_long_line_of_no_field_is_ignored():
    """A long line without a colon, or with an unknown name, is skipped like a short one."""
    assert EventDecoder().feed(b"x" * 5000 + b"\ndata: 1\n" + b"y" * 5000 + b": z\n\n") == [("message", "1", "")]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_dispatch_at_the_first_byte_of_the_blank_line(end):
    """An event comes out with the CR or LF of its blank line, without waiting for a byte more."""
    decoder = EventDecoder()
    assert decoder.feed(b"data: x" + end) == []
    assert decoder.feed(end[:1]) == [("message", "x", "")]
    assert decoder.feed(end[1:] + b"data: y" + end + end[:1]) == [("message", "y", "")]


def test_a_received_event_is_immutable_and_has_defaults():
    """An event compares and hashes by value, can't be changed, and has no __dict__."""
    event = ReceivedEvent(data="x")
    assert event == ReceivedEvent("message", "x", "")
    assert hash(event) == hash(ReceivedEvent("message", "x", ""))
    with pytest.raises(AttributeError):
        event.data = "y"
    assert not hasattr(event, "__dict__")


def test_json():
    """json() parses the data, and its error is json's own."""
    assert ReceivedEvent(data='{"a": [1]}').json() == {"a": [1]}
    with pytest.raises(json.JSONDecodeError):
        ReceivedEvent(data="a").json()
    for data in ("[" * 200_000, "9" * 5000):  # a server may send anything
        with pytest.raises(ValueError, match="deep|digits"):
            ReceivedEvent(data=data).json()


def test_the_last_event_id_is_committed_at_the_blank_line():
    """last_event_id changes at a blank line, with data or without, and never in an unfinished block."""
    decoder = EventDecoder()
    decoder.feed(b"id: 1\n")
    assert decoder.last_event_id == ""
    decoder.feed(b"\nid: 2\ndata: x\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"\n")
    assert decoder.last_event_id == "2"


def test_the_last_event_id_of_an_earlier_connection_holds():
    """A decoder that starts with an id gives it to its events until the stream sets another."""
    decoder = EventDecoder(last_event_id="7")
    assert decoder.last_event_id == "7"
    assert decoder.feed(b"data: x\n\nid: 8\ndata: y\n\n") == [("message", "x", "7"), ("message", "y", "8")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"0", 0),
        (b"03000", 3000),
        (b"0" * 5000 + b"1", 1),
        (b"9" * 18, 10**18 - 1),
        *((bad, 70) for bad in (b"", b"9" * 19, b"9" * 5000, b"1_000", b"+5", b"-5", b" 5", b"5 ", b"1.5", b"5\0")),
        *((bad.encode(), 70) for bad in ("\u0661", "\u00b2", "5\u0665")),
    ],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.parametrize("colon", [b": ", b":"])
def test_retry(value, expected, colon):
    """retry is ASCII digits only and takes effect at the end of its line; anything else leaves it unchanged."""
    decoder = EventDecoder()
    assert decoder.retry is None
    decoder.feed(b"retry: 70\n")
    # Where the colon has no space of its own, a leading one in the value is that space.
    decoder.feed(b"retry: " + value + b"\n" if value.startswith(b" ") else b"retry" + colon + value + b"\n")
    assert decoder.retry == expected


@pytest.mark.parametrize("size", [0, -1])
def test_a_limit_below_one_byte_is_refused(size):
    """max_event_size must be at least one byte."""
    with pytest.raises(ValueError, match="at least 1 byte"):
        EventDecoder(max_event_size=size)


def feed_until_too_large(stream, limit, chunks=None):
    decoder = EventDecoder(max_event_size=limit)
    events = []
    try:
        for chunk in chunks or [stream]:
            events += decoder.feed(chunk)
    except EventTooLargeError as error:
        return [*events, *error.events], decoder
    return events, None


@pytest.mark.parametrize(
    ("stream", "size"),
    [
        (b"data: 1234\n\n", 11),
        (b"data: 1234\ndata: 12\n\n", 20),
        (b"id: 1\nevent: a\nx\ndata: 1\n\n", 25),
        (b": 12345678901234567\ndata: 1\n:\n:\n:\n:\n:\n:\n\n", 20),
        (b"data: 1\n:\ndata: 2\n\n", 16),
        (b"data: 12345678901\r\n\r\n", 18),
        (b"\xef\xbb\xbfdata: 1\n\n", 8),
        (b"\n\n\n: \ndata\n\n\n\n", 5),
        (b"\n\nid: 123456789\ndata: 12345678901\n\n", 32),
    ],
)
def test_the_size_of_an_event(stream, size):
    """The size of an event counts its lines without comments; one byte above the limit is too large."""
    for prefix in (b"", b"data: 0\n\n" if size >= 8 else b""):
        for chunks in chunkings(stream if stream.startswith(b"\xef") else prefix + stream):
            assert feed_until_too_large(stream, size, chunks)[1] is None
            assert feed_until_too_large(stream, size - 1, chunks)[1] is not None


def test_an_event_too_large_loses_no_event_before_it():
    """Events before an oversized one are returned or in the error; last_event_id is that of the last one."""
    stream = b"id: 1\ndata: x\n\nid: 2\ndata: y\n\nid: 3\ndata: " + b"z" * 100 + b"\n\nid: 4\ndata: a\n\n"
    for chunks in chunkings(stream):
        events, decoder = feed_until_too_large(stream, 50, chunks)
        assert events == [("message", "x", "1"), ("message", "y", "2")]
        assert decoder.last_event_id == "2"


def test_after_an_event_too_large_the_decoder_is_of_no_further_use():
    """After an oversized event, every call raises the same error again, without events."""
    decoder = EventDecoder(max_event_size=10)
    with pytest.raises(EventTooLargeError, match="more than 10 bytes") as info:
        decoder.feed(b"data: x\n\ndata: " + b"y" * 10)
    assert info.value.events == (("message", "x", ""),)
    assert info.value.max_event_size == 10
    assert isinstance(info.value, SSEError)
    for data in (b"", b"\n\n", b"data: x\n\n"):
        with pytest.raises(EventTooLargeError) as info:
            decoder.feed(data)
        assert info.value.events == ()


def test_endless_comments_are_no_event():
    """A stream of nothing but short comments stays within the limit for ever."""
    decoder = EventDecoder(max_event_size=20)
    for _ in range(100):
        assert decoder.feed(b": ping\n") == []


def test_the_id_of_an_event_too_large():
    """The error has the id that the event set before it became too large, however the stream is cut."""
    start = b"id: 1\ndata: x\n\n"
    for own, event_id in ((b"id: 2\n", "2"), (b"", None)):
        stream = start + own + b"data: " + b"z" * 100 + b"\nid: 3\n\n"
        for chunks in chunkings(stream):
            decoder = EventDecoder(max_event_size=50)
            with pytest.raises(EventTooLargeError) as info:
                for chunk in chunks:
                    decoder.feed(chunk)
            assert info.value.event_id == event_id


def test_skipping_goes_on_after_an_event_too_large():
    """With skip_too_large, an oversized event is counted and the others are returned; its id counts, too."""
    decoder = EventDecoder(max_event_size=50, skip_too_large=True)
    large = b"id: 2\nevent: e\ndata: " + b"z" * 100 + b"\nretry: 9\ndata: 1\n\n"
    assert decoder.feed(b"data: x\n\n" + large) == [("message", "x", "")]
    assert (decoder.skipped, decoder.last_event_id, decoder.retry) == (1, "2", 9)
    assert decoder.feed(b"data: y\n\n") == [("message", "y", "2")]


@pytest.mark.untraced
def test_skipping_holds_no_more_than_the_limit():
    """However long an event or a line of it is, the decoder holds a bounded part of it."""
    import tracemalloc

    decoder = EventDecoder(max_event_size=10_000, skip_too_large=True)
    tracemalloc.start()
    try:
        for _ in range(300):  # 2.7 MB
            assert decoder.feed(b"data: x\n" * 500 + b"y" * 5000) == []
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
    assert decoder.feed(b"\n\ndata: x\n\n") == [("message", "x", "")]


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (b"", []),
        (b"data: x", [("message", "x", "1")]),
        (b"data: x\r", [("message", "x", "1")]),
        (b"id: 2\nevent: e\ndata: x\n", [("e", "x", "2")]),
        (b"id: 2", []),
        (b"data: x\n\n", []),
        (b": comment", []),
    ],
)
def test_flush(tail, expected):
    """flush() treats the end of the stream as the end of the last line and of the last event."""
    decoder = EventDecoder(last_event_id="1")
    decoder.feed(b"data: w\n\n" + tail)
    assert decoder.flush() == expected
    assert decoder.last_event_id == ("2" if b"id: 2" in tail else "1")


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_flush_and_an_event_too_large(end):
    """At the end of the stream, too, an oversized event is skipped or raises the error again."""
    stream = b"id: 7\ndata: 123456789" + end
    decoder = EventDecoder(max_event_size=15, skip_too_large=True)
    assert decoder.feed(stream) == decoder.flush() == []
    assert (decoder.skipped, decoder.last_event_id) == (1, "7")
    decoder = EventDecoder(max_event_size=15)
    with pytest.raises(EventTooLargeError):
        decoder.feed(stream)
    with pytest.raises(EventTooLargeError):
        decoder.flush()


def test_repr_shows_where_the_decoder_is():
    """The repr of a decoder shows the last event id and how much of an unfinished event it holds."""
    decoder = EventDecoder(last_event_id="6")
    decoder.feed(b"id: 7\n\ndata: x\nda")
    assert repr(decoder) == "<EventDecoder: last_event_id='7', 10 bytes of an unfinished event>"
