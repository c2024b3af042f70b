"""EventDecoder against the encoder, against a slow plain decoder, and against its promises on time and memory."""

from __future__ import annotations

import gc
import re
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_trio._errors import EventTooLargeError
from sse_trio._wire.decoder import EventDecoder
from sse_trio._wire.event import ServerSentEvent

from .._volume import volume

pytestmark = pytest.mark.untraced

# Derandomised: the suite is deterministic. `--hypothesis-seed` and more examples are for a longer hunt.
bounded = settings(max_examples=volume(300), deadline=None, derandomize=True)


def cut(stream, places):
    ends = sorted({place % (len(stream) + 1) for place in places} | {len(stream)})
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def decode(chunks, **options):
    decoder = EventDecoder(**options)
    return [event for chunk in chunks for event in decoder.feed(chunk)], decoder.last_event_id, decoder.retry


# --- Encode, then decode

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
text = any_text | st.text("a \n\r\0:\ufeff\u2028\u00e9", max_size=9)
line = text.map(lambda value: re.sub("[\r\n]", "", value))
legal_events = st.builds(
    ServerSentEvent,
    st.none() | text,
    event=st.none() | line,
    id=st.none() | line.map(lambda value: value.replace("\0", "")),
    retry=st.none() | st.integers(0, 10**18 - 1),
    comment=st.none() | text,
)
places = st.lists(st.integers(0, 10_000), max_size=12)


def expected_of(events):
    received, last_event_id, retry = [], "", None
    for event in events:
        last_event_id = last_event_id if event.id is None else event.id
        retry = retry if event.retry is None else event.retry
        if event.data is not None:
            received.append((event.event or "message", re.sub("\r\n?", "\n", event.data), last_event_id))
    return received, last_event_id, retry


@bounded
@given(st.lists(legal_events, max_size=6), st.sampled_from(["\n", "\r", "\r\n"]), places)
def test_encode_then_decode_gives_the_event_back(events, sep, places):
    """Every legal event is decoded unchanged, whole, byte by byte, and however it is cut."""
    stream = b"".join(event.encode(sep) for event in events)
    for chunks in ([stream], cut(stream, range(len(stream))), cut(stream, places)):
        assert decode(chunks) == expected_of(events)


# --- The same as a decoder that is too simple to be wrong


def plain_decode(stream):
    """WHATWG HTML 9.2.6 word for word, on the whole stream at once."""
    lines = re.split("\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace"))
    events, last_event_id, id_buffer, retry, data, kind = [], "", "", None, "", ""
    for line in lines[:-1]:
        if line == "":
            last_event_id = id_buffer
            if data:
                events.append((kind or "message", data[:-1], last_event_id))
            data, kind = "", ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data += value + "\n"
        elif name == "id" and "\0" not in value:
            id_buffer = value
        elif name == "retry" and re.fullmatch("[0-9]+", value) and int(value) < 10**18:
            retry = int(value)
    return events, last_event_id, retry


def has_too_large(stream, limit):
    """The definition of max_event_size, word for word."""
    *lines, unfinished = re.split(b"\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf"))
    held = 0
    for line in lines:
        if line and held + len(line) + 1 > limit:
            return True
        held = 0 if not line else held if line.startswith(b":") else held + len(line) + 1
    return held + len(unfinished) > limit


line_ends = [b"\r", b"\n", b"\r\n", b"\n\n"]
names = [b"data", b"event", b"id", b"retry", b"data: ", b"id: ", b": ", b":", b" "]
oddities = [b"\0", b"\xef\xbb\xbf", b"\xef", b"\xbb\xbf", b"\xe2\x80\xa6", b"\xe2\x80", b"\xff"]
values = [b"0", b"12", b"x" * 40, b"y" * 2100]
blocks = [
    b"data: x\n\n",
    b"data: 1\ndata: 2\n\n",
    b"id: 1\r\ndata: x\r\n\r\n",
    b"event: e\n",
    b": ping\n\n",
    b"retry: 9\r",
]
pieces = st.sampled_from([*line_ends, *names, *oddities, *values, *blocks])
streams = st.lists(pieces, max_size=40).map(b"".join)


@bounded
@given(streams | st.binary(max_size=60), places)
def test_agrees_with_a_plain_decoder(stream, places):
    """On any input, legal or not, the decoder agrees with a word-for-word one, however the input is cut."""
    for chunks in ([stream], cut(stream, range(0, len(stream), 3)), cut(stream, places)):
        assert decode(chunks) == plain_decode(stream)


@bounded
@given(streams, places, st.integers(1, 2500))
def test_the_limit_does_not_depend_on_the_chunking(stream, places, limit):
    """Whether an event is too large, and what came before it, doesn't depend on how the stream is cut."""
    outcomes = []
    for chunks in ([stream], cut(stream, range(len(stream))), cut(stream, places)):
        decoder, events, failed = EventDecoder(max_event_size=limit), [], False
        try:
            for chunk in chunks:
                events += decoder.feed(chunk)
        except EventTooLargeError as error:
            events += error.events
            failed = True
        outcomes.append((events, decoder.last_event_id, failed))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert outcomes[0][2] == has_too_large(stream, limit)
    complete = plain_decode(stream)[0]
    assert outcomes[0][0] == (complete[: len(outcomes[0][0])] if outcomes[0][2] else complete)


def plain_decode_skipping(stream, limit):
    """As plain_decode(), without the events that are too large: of those, only the ids and retries count."""
    kept, skipped, block, held, is_over = b"", 0, b"", 0, False
    for line in re.split(b"\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf"))[:-1]:
        is_over = is_over or (bool(line) and held + len(line) + 1 > limit)
        counts = len(line) < limit and line.partition(b":")[0] in (b"id", b"retry")
        if is_over:
            block = b"".join(old + b"\n" for old in block.splitlines() if re.match(b"(id|retry)(:|$)", old))
            block += line + b"\n" if counts or not line else b""
        else:
            block += line + b"\n"
            held += 0 if line.startswith(b":") else len(line) + 1
        if not line:
            kept, skipped, block, held, is_over = kept + block, skipped + is_over, b"", 0, False
    return plain_decode(kept + block), skipped


@bounded
@given(streams, places, st.integers(1, 2500))
def test_skipping_agrees_with_a_plain_decoder(stream, places, limit):
    """With skip_too_large, exactly the oversized events are missing, however the stream is cut; their ids count."""
    expected = plain_decode_skipping(stream, limit)
    for chunks in ([stream], cut(stream, range(len(stream))), cut(stream, places)):
        decoder = EventDecoder(max_event_size=limit, skip_too_large=True)
        events = [event for chunk in chunks for event in decoder.feed(chunk)]
        assert ((events, decoder.last_event_id, decoder.retry), decoder.skipped) == expected


@bounded
@given(streams, places)
def test_flush_agrees_with_a_plain_decoder(stream, places):
    """flush() returns what the stream would give if its last line and its last event had ended."""
    plain = stream.removeprefix(b"\xef\xbb\xbf") if stream != b"\xef" else b"\xef"
    is_in_line = plain[-1:] not in (b"", b"\r", b"\n")
    expected = plain_decode(stream + b"\n" * (1 + is_in_line) if not stream.endswith(b"\r") else stream + b"\n\n")
    for chunks in ([stream], cut(stream, places)):
        decoder = EventDecoder()
        events = [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.flush()
        assert (events, decoder.last_event_id, decoder.retry) == expected


# --- Time and memory


def long_line(size):
    chunk = b"x" * 1024
    return [b"data: ", *[chunk] * (size // 1024), b"\n\n"]


def many_data_lines(size):
    stream = b"data: 0123456789\n" * (size // 17) + b"\n"
    return [stream[i : i + 1024] for i in range(0, len(stream), 1024)]


def many_tiny_events(size):
    return [b"data: 0123456789\n\n" * (size // 18)]


@pytest.fixture
def no_garbage_collection():
    """Keep the collector away: its time grows with what the whole test run holds."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("make", [long_line, many_data_lines, many_tiny_events])
def test_time_is_linear(make):
    """Eight times the input takes about eight times as long; quadratic work would take 64 times."""

    def best(size):
        chunks, times = make(size), []
        for _ in range(4):
            decoder = EventDecoder(max_event_size=2**30)
            start = time.thread_time()
            for chunk in chunks:
                decoder.feed(chunk)
            times.append(time.thread_time() - start)
        return min(times)

    assert best(2**21) < 24 * best(2**18)


def peak_until_too_large(decoder, chunk):
    """Feed one chunk over and over, and return the most bytes that were held at a time, and what is held at last."""
    tracemalloc.start()
    try:
        for _ in range(2**20 + 1):
            decoder.feed(chunk)
        pytest.fail("the limit was never reached")
    except EventTooLargeError:
        return tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("chunk", "limit"), [(b"x", 2**15), (b"x" * 1024, 2**20), (b"x" * 100_000, 2**20)])
@pytest.mark.parametrize("start", [b"data: ", b": ", b""])
def test_an_endless_line_is_an_error_within_bounded_memory(start, chunk, limit):
    """An endless line raises EventTooLargeError at the limit, having held less than four times that."""
    decoder = EventDecoder(max_event_size=limit)
    decoder.feed(start)
    current, peak = peak_until_too_large(decoder, chunk)
    assert peak < 4 * limit
    assert current < 2**14


@pytest.mark.parametrize("line", [b"data\n", b"data:xy\n", b"data: 0123456789\n"])
def test_endless_data_lines_are_an_error_within_bounded_memory(line):
    """An endless event raises EventTooLargeError, too, however short its lines are."""
    _, peak = peak_until_too_large(EventDecoder(), line * 1024)
    assert peak < 4 * 2**20
