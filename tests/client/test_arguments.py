"""Arguments of open_event_source() that make no sense: an error where it is opened, which says what to write."""

from __future__ import annotations

import inspect
import re
from functools import partial

import httpx
import pytest

from sse_trio import EventDecoder
from sse_trio.client import open_event_source

pytestmark = pytest.mark.anyio

NAN, INF, HUGE = float("nan"), float("inf"), 10**400


async def async_function(source=None):
    pytest.fail("called")


class AsyncCallable:
    async def __call__(self, source):
        pytest.fail("called")


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


# What no argument takes, but for those that are listed with it.
NUMBERS = [5, -1, 0, HUGE, -HUGE, 1.5, NAN, INF, True]
NONSENSE = [object(), *NUMBERS, b"x\n", "\ud800\n", [None], {5: 5}, {"a": object()}, set]
TAKES = {
    "client": (),
    "method": (),
    "headers": (),
    "params": (),
    "json": (5, -1, 0, 1.5, True, [None], {5: 5}, HUGE, -HUGE),
    "content": (b"x\n",),
    "last_event_id": (),
    "reconnect": (True,),
    "retry": (5, 0, 1.5),
    "max_retry": (5, 0, 1.5),
    "idle_timeout": (5, 1.5),
    "head_timeout": (5, 1.5),
    "max_event_size": (5, HUGE),
    "skip_too_large": (True,),
    "take_unfinished": (True,),
    "max_answer_size": (5, 0, HUGE),
    "accept": (set,),
    "retry_statuses": (),
    "trusted_origins": (),
    "on_state_change": (set,),
}
NOT_NONE = {
    "method",
    "last_event_id",
    "retry",
    "max_retry",
    "max_event_size",
    "skip_too_large",
    "take_unfinished",
    "max_answer_size",
    "retry_statuses",
    "trusted_origins",
}


def is_taken(name, value):
    return any(type(value) is type(taken) and value == taken for taken in TAKES[name])


def test_every_argument_is_tried():
    """Every argument is in the table of this file."""
    assert set(inspect.signature(open_event_source).parameters) == {"url", *TAKES}


REFUSED = [(name, value) for name in TAKES for value in NONSENSE if not is_taken(name, value)]
REFUSED += [(name, None) for name in sorted(NOT_NONE)]


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=map(str, range(len(REFUSED))))
async def test_nonsense_is_refused(serve, stream, name, value):
    """A value that an argument can't take raises our own TypeError or ValueError, and nothing is sent."""
    server = serve(stream())
    if name == "headers" and value is set:
        value = {"a": "b"}.values()
    with pytest.raises((TypeError, ValueError)) as info:
        async with server.client() as client, open_event_source("/", **({"client": client} | {name: value})):
            pytest.fail("opened")
    assert name in str(info.value)
    assert server.requests == []


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"client": httpx.Client()}, TypeError, "an httpx.AsyncClient or None; got an object of type Client"),
        ({"method": ""}, ValueError, "method must be .*; got ''$"),
        ({"method": "GE T"}, ValueError, '"GET", "POST" or another'),
        ({"method": "head"}, ValueError, "another method whose answer has a body"),
        ({"headers": {"a b": "c"}}, ValueError, "names of letters, digits and '-'.*; got 'a b'$"),
        ({"headers": {"a": "SECRET\n"}}, ValueError, r"that of 'a' has something else; maybe \.strip\(\) it"),
        ({"headers": {"a": " SECRET"}}, ValueError, "blanks around them"),
        ({"headers": {"a": "SECRET\u2026"}}, ValueError, "ASCII"),
        ({"headers": {"a": 5}}, TypeError, "a mapping of str to str; the value of 'a' is of type int"),
        ({"headers": [("a", "b")]}, TypeError, "a mapping"),
        ({"params": "a=SECRET"}, TypeError, "a mapping"),
        ({"params": {"a": [1, b"x"]}}, TypeError, "see 'a'"),
        ({"params": {"a": "\ud800"}}, ValueError, "lone surrogate"),
        ({"json": {"a": NAN}}, ValueError, "that JSON can express"),
        ({"json": ["\ud800"]}, ValueError, "that JSON can express"),
        ({"json": nested(100_000)}, ValueError, "that JSON can express"),
        ({"json": {"a": object()}}, TypeError, "that JSON can express"),
        ({"json": 1, "content": "x"}, ValueError, "give one of them"),
        ({"content": iter([b"x"])}, TypeError, "each connection sends it again"),
        ({"last_event_id": "1\n"}, ValueError, "no line break"),
        ({"last_event_id": "\r"}, ValueError, "no line break"),
        ({"last_event_id": "1\0"}, ValueError, "no NUL"),
        ({"last_event_id": "\udc80"}, ValueError, "lone surrogate"),
        ({"reconnect": "no"}, TypeError, "True, False, or None for GET only"),
        ({"retry": -1}, ValueError, "retry must be a number of seconds, 0 or more; got -1$"),
        ({"retry": "3"}, TypeError, "a number of seconds"),
        ({"max_retry": HUGE}, ValueError, r"max_retry must be .*; got 10+\.\.\.$"),
        ({"max_retry": INF}, ValueError, "max_retry must be a finite number of seconds; got inf$"),
        ({"idle_timeout": INF}, ValueError, "a finite number of seconds, or None to wait for ever; got inf$"),
        ({"idle_timeout": "soon"}, TypeError, "None to wait for ever; got 'soon'$"),
        ({"max_event_size": 0}, ValueError, "at least 1 byte"),
        ({"max_event_size": 1e6}, TypeError, "an int"),
        ({"head_timeout": 0}, ValueError, "a positive number of seconds, or None to wait for ever; got 0$"),
        ({"skip_too_large": None}, TypeError, "must be True or False; got None"),
        ({"take_unfinished": "no"}, TypeError, "must be True or False; got 'no'$"),
        ({"max_answer_size": -1}, ValueError, "a number of bytes, 0 or more; got -1$"),
        ({"max_answer_size": "1 MB"}, TypeError, "a number of bytes"),
        ({"accept": True}, TypeError, "give the function"),
        ({"accept": async_function}, TypeError, "write `def`, not `async def`"),
        ({"retry_statuses": 503}, TypeError, "a collection of int"),
        ({"retry_statuses": "503"}, TypeError, "a collection of int"),
        ({"retry_statuses": ["503"]}, TypeError, "int from 100 to 599; got '503'$"),
        ({"retry_statuses": {True}}, TypeError, "int from 100 to 599; got True$"),
        ({"retry_statuses": {5030}}, ValueError, "from 100 to 599"),
        ({"on_state_change": "print"}, TypeError, "give the function"),
        ({"on_state_change": async_function}, TypeError, "write `def`, not `async def`"),
        ({"on_state_change": partial(async_function)}, TypeError, "write `def`, not `async def`"),
        ({"on_state_change": AsyncCallable()}, TypeError, "write `def`, not `async def`"),
        ({"on_state_change": lambda _: async_function()}, TypeError, "returned a coroutine"),
        ({"trusted_origins": "https://other"}, TypeError, "a collection of str"),
        ({"trusted_origins": [5]}, TypeError, "a collection of str; got an object of type int"),
        *(
            ({"trusted_origins": [origin]}, ValueError, "scheme, host and maybe port")
            for origin in (
                "other",
                "//other",
                "ftp://other",
                "https://",
                "https://*",
                "https://*.",
                "https://a.*.b",
                "https://u:SECRET@other",
                "https://other/path",
                "https://other?SECRET",
                "https://other#part",
            )
        ),
        ({"trusted_origins": ["https://other:x"]}, ValueError, "Invalid port in the URL"),
    ],
)
async def test_what_to_write_instead(serve, stream, options, error, says):
    """The message names the argument, says what was wrong and what to write, and contains no secret."""
    server = serve(stream())
    with pytest.raises(error) as info:
        async with server.client() as client, open_event_source("/", **({"client": client} | options)):
            pytest.fail("opened")
    assert re.search(says, str(info.value), re.DOTALL)
    assert "SECRET" not in str(info.value)
    assert server.requests == []


async def test_a_closed_client():
    """A closed client is refused before the first attempt."""
    async with httpx.AsyncClient() as client:
        pass
    with pytest.raises(ValueError, match="client must be open"):
        async with open_event_source("http://test/", client=client):
            pytest.fail("opened")


@pytest.mark.parametrize("url", [None, 5, b"http://test/", object(), ["http://test/"]])
async def test_a_url_of_another_type(url):
    """A URL must be a str or an httpx.URL."""
    with pytest.raises(TypeError, match=r"url must be a str or an httpx\.URL"):
        async with open_event_source(url):
            pytest.fail("opened")


@pytest.mark.parametrize(
    "url",
    [
        "https://user:SECRET@a b/?SECRET",
        "https://user:SECRET@a..b/",
        "https://user:SECRET@xn--SECRET/",
        "https://user:SECRET@host:99999/",
        "https://user:SEC/RET@host/",
        "https://user:SECRET@host:x/",
        "https://user:SECRET@host:SECRET/",
        "https://user:SECRET@\u2603.\ud800/",
        "https://user:SECRET@host/\n",
        "https://user:SECRET@host/\ud800",
        "https://user:SECRET@host/?\ud800",
        "https://user:SECRET@[::x]/",
        "https://SECRET@1.2.3.999/",
        "http://test/" + "SECRET" * 20_000,
    ],
)
async def test_a_url_that_is_none(url):
    """A malformed URL raises a ValueError that is also httpx's InvalidURL, and that quotes nothing of the URL."""
    with pytest.raises(ValueError, match="in the URL") as info:
        async with open_event_source(url):
            pytest.fail("opened")
    assert isinstance(info.value, httpx.InvalidURL)
    assert not re.search("SEC|RET", str(info.value))
    assert info.value.__suppress_context__ or info.value.__context__ is None


@pytest.mark.parametrize(
    "options",
    [
        {"retry_statuses": range(500, 600)},
        {"retry_statuses": frozenset()},
        {"headers": httpx.Headers([("a", "1"), ("a", "2")])},
        {"headers": {"a": ""}},
        {"params": httpx.QueryParams("a=1")},
        {"params": {"a": (1, "2")}},
        {"content": ""},
        {"max_retry": 0},
        {"on_state_change": print},
        {"trusted_origins": {"https://a.example.org/", "http://[::1]:8000"}},
    ],
)
async def test_what_makes_sense_is_taken(serve, stream, options):
    """Unusual but valid values are accepted."""
    server = serve(stream(status=204))
    async with server.client() as client, open_event_source("/", client=client, **options):
        pass
    assert len(server.requests) == 1


async def test_every_value_of_a_header_is_sent(serve, stream):
    """If httpx.Headers contain a name twice, both values are sent."""
    server = serve(stream(status=204))
    headers = httpx.Headers([("a", "1"), ("a", "2")])
    async with server.client() as client, open_event_source("/", client=client, headers=headers):
        pass
    assert server.requests[0].headers.get_list("a") == ["1", "2"]


async def test_a_request_shows_no_secret():
    """The repr of a request, which tracebacks may show, contains neither the URL nor a header."""
    from sse_trio.client._caller_headers import CallerHeaders
    from sse_trio.client._http2 import Http2Watch
    from sse_trio.client._request import StreamRequest

    async with httpx.AsyncClient() as client:
        request = StreamRequest(
            client=client,
            method="GET",
            url=httpx.URL("http://SECRET@test/"),
            params=httpx.QueryParams("SECRET"),
            headers=CallerHeaders({"a": "SECRET"}),
            content="SECRET",
            json=None,
            trusted_origins=(),
            http2=Http2Watch(client),
        )
        assert "SECRET" not in repr(request)
        assert request.description == "GET http://test/"


@pytest.mark.parametrize("size", [None, "5", 1.5, NAN, INF, True, False, b"5", [5]])
def test_a_size_of_another_type(size):
    """max_event_size must be an int."""
    with pytest.raises(TypeError, match="max_event_size must be an int, the maximum size"):
        EventDecoder(max_event_size=size)


@pytest.mark.parametrize("size", [0, -1, -HUGE, -(10**5000)], ids=["0", "-1", "huge", "larger"])
def test_a_size_of_nothing(size):
    """max_event_size must be at least 1."""
    with pytest.raises(ValueError, match="at least 1 byte"):
        EventDecoder(max_event_size=size)


def test_a_size_without_a_bound():
    """A huge max_event_size is accepted and means that there is no limit."""
    decoder = EventDecoder(max_event_size=HUGE)
    assert len(decoder.feed(b"data: x\n\n")) == 1


def test_a_decoders_last_event_id_is_text():
    """A decoder's last_event_id must be a str, because events would contain it."""
    for event_id in (None, b"1", 5):
        with pytest.raises(TypeError, match="last_event_id must be a str"):
            EventDecoder(last_event_id=event_id)


@pytest.mark.parametrize("skip", [None, 1, "no"])
def test_whether_a_decoder_skips_is_true_or_false(skip):
    """skip_too_large must be True or False."""
    with pytest.raises(TypeError, match="skip_too_large must be True or False"):
        EventDecoder(skip_too_large=skip)
