# What README.md says, beyond that its code blocks run (test_docs.py): the commands, the quickstarts, the table.

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

import sse_trio
from sse_trio import CloseReason
from sse_trio.testing import open_test_stream

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SET_UP = "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox -s"

pytestmark = pytest.mark.anyio


def namespace_after(heading):
    """Run the blocks up to the end of a section, and return the names that a reader would have then."""
    document = Document.parse(str(ROOT / "README.md"), PythonCodeBlockParser())
    end = README.find("\n## ", README.index(f"\n## {heading}") + 1)
    for example in document.examples():
        if example.region.start < end:
            example.evaluate()
    return document.namespace


@pytest.mark.parametrize("session", ["demo", "tests"])
def test_a_command_stands_in_a_block_of_its_own(session):
    """Each of the two commands can be copied as it stands, and is near the top."""
    block = f"```console\n{SET_UP} {session}\n```\n"
    assert README.count(block) == 1
    assert README.index(block) < README.index("\n## ")


def test_ci_calls_the_command_of_the_readme():
    """CI runs the same commands that the README gives."""
    assert f"\n{SET_UP} tests\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("heading", "anyio_backend"),
    [("Quickstart: trio and hypercorn", "trio"), ("Quickstart: asyncio and uvicorn", "asyncio")],
    indirect=["anyio_backend"],
)
async def test_a_quickstart_ticks(heading, anyio_backend):
    """The quickstart's producer sends a tick per second, and ends with the client."""
    names = namespace_after(heading)
    app = Starlette(routes=[Route("/clock", names["endpoint"])])
    async with open_test_stream(app, "/clock") as stream:
        assert [(event.data, event.id) for event in [await stream.receive() for _ in range(2)]] == [
            ("tick 0", "0"),
            ("tick 1", "1"),
        ]
        stream.disconnect()
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.DISCONNECTED


async def test_the_pair_merges(anyio_backend):
    """The stream of the pair has the events of both producers, and ends when both are done."""
    names = namespace_after("The pair is yours")
    app = Starlette(routes=[Route("/", names["merged"])])
    async with open_test_stream(app) as stream:
        assert {(event.event, event.data) async for event in stream} == {
            ("quote", "ACME 100"),
            ("news", "markets open"),
        }
    assert stream.close_reason is CloseReason.COMPLETED


async def test_a_missing_job_is_a_404(anyio_backend, real_clock):  # Starlette may answer an HTTPException in a thread
    """A producer that raises before its first event decides the status."""
    names = namespace_after("Status codes")
    app = Starlette(routes=[Route("/jobs/{job}", names["job_endpoint"])])
    async with open_test_stream(app, "/jobs/1") as stream:
        assert (await stream.receive()).data == "half way"
    async with open_test_stream(app, "/jobs/2") as stream:
        assert stream.status_code == 404
    with pytest.raises(HTTPException):
        await names["progress"](None, "2")


async def test_a_session_is_closed_when_the_client_has_gone(anyio_backend):
    """The cleanup of the section on cleanup is done, whatever the stream is at."""
    import anyio

    class Session:
        closed = False

        async def fetch(self):
            await anyio.sleep_forever()

        async def aclose(self):
            await anyio.sleep(1)
            self.closed = True

    session = Session()
    async with open_test_stream(sse_trio.EventSourceResponse(namespace_after("Cleanup")["rows"], session)) as stream:
        stream.disconnect()
        await stream.wait_closed()
    assert session.closed


async def test_a_user_who_logs_out_has_no_stream_any_more(anyio_backend):
    """The group's streams are ended by their labels."""
    names = namespace_after("Shutdown")
    app = Starlette(routes=[Route("/", names["in_a_group"])])
    async with open_test_stream(app) as stream:
        await names["log_out"]("somebody else")
        assert not stream.is_closed
        await names["log_out"]("7")
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.KICKED


def test_the_options_of_sse_starlette_are_all_told():
    """Every option of sse-starlette's constructor is on the page of those who come from there."""
    page = (ROOT / "docs" / "sse-starlette.md").read_text(encoding="utf-8")
    options = (
        "ping_message_factory background status_code headers media_type ping sep send_timeout data_sender_callable "
        "client_close_handler_callable shutdown_event shutdown_grace_period cleanup_timeout"
    )
    assert not [option for option in options.split() if not re.search(rf"`{option}\b", page)]


def test_it_reads_in_five_minutes():
    """The README's prose and table of figures take five minutes at 250 words a minute."""
    text = re.sub(r"```.*?```|<!-- figures.*?<!-- /figures -->", "", README, flags=re.DOTALL)
    assert len(text.split()) <= 5 * 250
