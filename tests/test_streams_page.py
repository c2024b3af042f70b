# What docs/streams.md says, beyond that its code blocks run (test_docs.py), and what the guide to cleanup says.

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

from sse_trio import CloseReason, EventSourceResponse, open_event_channel
from sse_trio.testing import open_test_stream

PAGE = Path(__file__).parent.parent / "docs" / "streams.md"

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def names():
    """The names that the blocks of the page define."""
    document = Document.parse(str(PAGE), PythonCodeBlockParser())
    for example in document.examples():
        example.evaluate()
    return document.namespace


async def test_a_producer_gets_the_arguments_of_the_response(names, anyio_backend):
    """What stands after the producer is passed on to it, and the stream ends when it returns."""
    async with open_test_stream(Starlette(routes=[Route("/", names["endpoint"])])) as stream:
        events = [event async for event in stream]
    assert [(event.event, event.data, event.id) for event in events[:2]] == [("count", "10", "10"), ("count", "9", "9")]
    assert len(events) == 10
    assert stream.close_reason is CloseReason.COMPLETED


async def test_the_pair_merges(names, anyio_backend):
    """The stream of the pair has the events of both producers, and ends when both are done."""
    async with open_test_stream(Starlette(routes=[Route("/", names["merged"])])) as stream:
        assert {(event.event, event.data) async for event in stream} == {
            ("quote", "ACME 100"),
            ("news", "markets open"),
        }
    assert stream.close_reason is CloseReason.COMPLETED


async def test_a_missing_job_is_a_404(names, anyio_backend, real_clock):  # Starlette may answer in a thread
    """A producer that raises before its first event decides the status."""
    app = Starlette(routes=[Route("/jobs/{job}", names["job_endpoint"])])
    async with open_test_stream(app, "/jobs/1") as stream:
        assert (await stream.receive()).data == "half way"
    async with open_test_stream(app, "/jobs/2") as stream:
        assert stream.status_code == 404
    with pytest.raises(HTTPException):
        await names["progress"](None, "2")


async def test_a_user_who_logs_out_has_no_stream_any_more(names, anyio_backend):
    """The group's streams are ended by their labels."""
    async with open_test_stream(Starlette(routes=[Route("/", names["greeting"])])) as stream:
        await names["log_out"]("another user")
        assert not stream.is_closed
        await names["log_out"]("7")
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.KICKED


def test_the_figures_of_the_buffers_are_the_defaults():
    """A response buffers 256 events or 64 KiB, a pair that you open 64 events, as the page says."""
    assert EventSourceResponse.__init__.__kwdefaults__["max_buffer_size"] == 256
    assert EventSourceResponse.__init__.__kwdefaults__["max_buffer_bytes"] == 64 * 1024
    assert open_event_channel.__defaults__[0] == 64
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert "256 events or 64 KiB in a response, 64 events in a pair" in text


def test_the_table_of_options_is_complete():
    """The table has every option of the response in the order of its signature, and only those."""
    table = PAGE.read_text(encoding="utf-8").partition("## The options of the response")[2].partition("\n## ")[0]
    named = [
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")
    ]
    parameters = inspect.signature(EventSourceResponse).parameters.values()
    assert named == [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("ping", "15 s"),
        ("send_timeout", "30 s"),
        ("commit_within", "0.5 s"),
        ("grace", "0 s"),
        ("max_lifetime", "none"),
    ],
)
def test_the_defaults_of_the_table(option, shown):
    """The table has the defaults of the signature."""
    default = inspect.signature(EventSourceResponse).parameters[option].default
    assert shown == ("none" if default is None else f"{default:g} s")
    assert f"| `{option}` | {shown} |" in PAGE.read_text(encoding="utf-8")
