"""The Accept header: what a client would rather have, and what it takes at all."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from sse_trio import accepts_event_stream, preferred_media_type
from sse_trio._requests.headers import quality_of

JSON, STREAM = "application/json", "text/event-stream"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"
# RFC 9110, section 12.5.1, with its table 5. The last line is that of its erratum 7138: the RFC itself says 0.7 there,
# which no range of the header gives.
RFC_EXAMPLE = "text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, text/plain;format=fixed;q=0.4, */*;q=0.5"
RFC_TABLE = {
    "text/plain;format=flowed": 1,
    "text/plain": 0.7,
    "text/html": 0.3,
    "image/jpeg": 0.5,
    "text/plain;format=fixed": 0.4,
    "text/html;level=3": 0.3,
}


def request(*accept: str) -> Request:
    """A request with these lines of Accept."""
    headers = [(b"accept", line.encode("latin-1")) for line in accept]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers})


@pytest.mark.parametrize(("media_type", "quality"), RFC_TABLE.items())
def test_the_example_of_the_rfc(media_type: str, quality: float) -> None:
    """The table of RFC 9110, 12.5.1, as its erratum 7138 corrects it, in whatever order the header's ranges stand."""
    assert quality_of(RFC_EXAMPLE, media_type) == quality
    assert quality_of(", ".join(reversed(RFC_EXAMPLE.split(", "))), media_type) == quality


@pytest.mark.parametrize(
    ("accept", "accepted"),
    [
        ([], True),
        ([""], True),
        (["text/event-stream"], True),
        (["*/*"], True),
        (["text/*"], True),
        (["TEXT/Event-Stream"], True),
        ([BROWSER], True),
        ([JAVA], True),
        (["application/json"], False),
        (["application/*, image/*"], False),
        (["text/html"], False),
        (["text/event-stream-2"], False),
        (["text/event-stream;q=0"], False),
        (["text/event-stream;q=0.000"], False),
        (["text/event-stream;q=0.001"], True),
        (["text/event-stream;q=0, */*"], False),
        (["*/*, text/event-stream; q=0"], False),
        (["text/*;q=0, */*;q=0.5"], False),
        (["*/*;q=0"], False),
        (["*/*;q=0, text/event-stream"], True),
        (["text/*;q=0, text/event-stream;q=0.1"], True),
        # parameters
        (["text/event-stream;charset=utf-8"], True),
        (['text/event-stream; Charset="UTF-8"; q=0.5'], True),
        (["text/event-stream;charset=utf8"], True),
        (["text/event-stream;charset=iso-8859-1"], False),
        (["text/event-stream;version=2"], False),
        (["text/event-stream;version=2, text/*;q=0.1"], True),
        (["text/event-stream;q=0;version=2, text/event-stream"], True),
        (["text/event-stream;q=0;extension, */*"], False),
        (["text/event-stream;Q=0, */*"], False),
        (["text/event-stream ; q=0 , */*"], False),
        (["text/event-stream;;q=0;, */*"], False),
        # several lines are one list
        (["application/json", "text/event-stream"], True),
        (["*/*", "text/event-stream;q=0"], False),
        # quotes
        (['text/plain;a="x, text/event-stream"'], False),
        (['text/plain;a="x\\", text/event-stream", text/html'], False),
        (['text/plain;a="x\\\\", text/event-stream'], True),
        (['text/plain;a="x\\", text/event-stream'], False),
        (["*;q=0.5, text/html"], True),
        (['text/plain;a="x;q=0", text/event-stream;a="b;c";q=0, */*'], True),
        (['image/png;a="never closed, text/event-stream'], False),
        # what is malformed counts for nothing, the rest does
        (["text/event-stream;q=high"], True),
        (["text/event-stream;q=high, application/json"], False),
        (["text/event-stream;q=-1, */*;q=0.1"], True),
        (["text/event-stream;q=nan, text/event-stream;q=0"], False),
        (["text/event-stream;q=1e-5, text/html"], False),
        (["text/event-stream;q=, text/html"], False),
        (["*/event-stream, text/html"], False),
        (["text/event-stream/x, text/html"], False),
        (["text event-stream, text/html"], False),
        (["text/, text/html"], False),
        (["/event-stream, text/html"], False),
        (["text, text/html"], False),
        ([", ,text/event-stream,,"], True),
        (['\xe9\xff, ;;;, =, "", text/html'], False),
        (["garbage"], True),
        (["text/event-stream;q=7"], True),
        (["text/event-stream;q=1., text/event-stream;q=.5"], True),
    ],
    ids=repr,
)
def test_whether_it_takes_a_stream(accept: list[str], accepted: bool) -> None:
    """What the header says of an event stream, by its most specific range."""
    assert accepts_event_stream(request(*accept)) is accepted


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        ([], JSON),
        (["*/*"], JSON),  # curl, fetch() and most libraries, if nobody tells them else
        ([BROWSER], JSON),
        ([STREAM], STREAM),  # EventSource
        ([JSON], JSON),
        ([f"{JSON}, {STREAM}"], JSON),
        ([f"{STREAM}, {JSON}"], JSON),
        ([f"{JSON};q=0.9, {STREAM}"], STREAM),
        ([f"{STREAM};q=0.5, {JSON};q=0.4"], STREAM),
        ([f"{STREAM}, */*;q=0.1"], STREAM),
        (["text/*, application/*;q=0.5"], STREAM),
        ([f"{JSON};q=0, */*"], STREAM),
        ([f"{STREAM};q=2, {JSON}"], JSON),
        (["application/json; charset=utf-8"], JSON),
        (["text/html"], None),
        (["*/*;q=0"], None),
        ([JSON, f"{STREAM};q=0"], JSON),
    ],
    ids=repr,
)
def test_what_it_would_rather_have(accept: list[str], preferred: str | None) -> None:
    """The highest quality wins; where the client does not care, what is offered first."""
    assert preferred_media_type(request(*accept), JSON, STREAM) == preferred


def test_quoted_parameters() -> None:
    """A parameter's value is the same with quotes and without, whatever is escaped in them."""
    assert quality_of(r'a/b;c="\x\y"', "a/b;c=xy") == 1
    assert quality_of("a/b;c=xy", 'a/b;c="xy"') == 1
    assert quality_of('a/b;c="xz"', "a/b;c=xy") == 0


def test_order_of_the_server() -> None:
    """With the stream first, who does not care gets the stream; the answer is what was given, letter by letter."""
    assert preferred_media_type(request("*/*"), STREAM, JSON) == STREAM
    assert preferred_media_type(request("application/*"), STREAM, "Application/JSON") == "Application/JSON"
    own = 'application/vnd.api+json;profile="x, y"'
    assert preferred_media_type(request(f"text/*;q=0.1, {own}"), STREAM, own) == own


@pytest.mark.parametrize("media_type", ["json", "text/*", "*/*", "", "text/", "text/event stream", "a/b, c/d"])
def test_what_is_no_media_type(media_type: str) -> None:
    """Media types that can't be offered are the caller's error, with or without the header."""
    with pytest.raises(ValueError, match="must be a media type"):
        preferred_media_type(request(), JSON, media_type)


def test_a_list_of_media_types() -> None:
    """A list in place of its members is refused, and the error says so."""
    with pytest.raises(TypeError, match=r"pass a list as \*media_types"):
        preferred_media_type(request(), [JSON, STREAM])  # type: ignore[arg-type]


def test_nothing_to_offer() -> None:
    """An empty offer is an error."""
    with pytest.raises(ValueError, match="media_types must be one or more"):
        preferred_media_type(request())


tokens = st.text(alphabet="abz*-+.0", min_size=1, max_size=6)
weights = st.sampled_from(["", ";q=0", ";q=1", ";q=0.5", "; q=0.25", ";Q=0.75"])
ranges = st.one_of(
    st.builds("{}/{}{}".format, tokens, tokens, weights),
    st.builds("{}{}".format, st.sampled_from([JSON, STREAM, "text/*", "*/*", f"{STREAM};v=1"]), weights),
)


@settings(max_examples=50)
@given(st.lists(st.one_of(st.text(max_size=30), ranges), max_size=6).map(",".join))
def test_no_header_raises(accept: str) -> None:
    """Whatever a client sends has a quality from 0 to 1, and what is preferred is what has the highest."""
    qualities = {media_type: quality_of(accept, media_type) for media_type in (JSON, STREAM)}
    assert all(0 <= quality <= 1 for quality in qualities.values())
    lines = request(accept.encode("latin-1", "replace").decode("latin-1"))
    preferred = preferred_media_type(lines, JSON, STREAM)
    assert preferred is None or preferred in qualities


@settings(max_examples=50)
@given(st.lists(ranges, min_size=1, max_size=6), st.randoms())
def test_the_order_of_the_header_means_nothing(header: list[str], chance: object) -> None:
    """Whatever order a client's ranges stand in, and on however many lines, it gets the same."""
    shuffled = [*header]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = preferred_media_type(request(", ".join(header)), JSON, STREAM)
    assert preferred_media_type(request(*shuffled), JSON, STREAM) == expected
    if any(each.partition(";")[0] == STREAM and ";v=1" not in each and "=0" not in each for each in header):
        assert accepts_event_stream(request(*header))


@pytest.mark.parametrize("text", ['"', '\\"', '"\\"', ",", ";", ";q=1", "a/b;", 'a/b;c="', "*/*,"])
def test_long_headers_are_read_in_no_time(text: str) -> None:
    """No header costs more than its length: 64 KiB of the worst are read in less than what a stream costs a server."""
    accept = text * (65_536 // len(text))
    began = time.process_time()
    quality_of(accept, STREAM)
    assert time.process_time() - began < 1
