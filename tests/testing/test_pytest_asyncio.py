"""The test kit in a project whose tests pytest-asyncio runs."""

from __future__ import annotations

import pytest

pytest.importorskip("pytest_asyncio", reason="pytest-asyncio is not installed")

PROJECT = """
import httpx, pytest
from sse_trio import EventSourceResponse, open_hub
from sse_trio.testing import StreamingASGITransport, open_test_stream

async def count(send_channel):
    for n in range(1000):
        await send_channel.send(n)

async def app(scope, receive, send):
    await EventSourceResponse(count)(scope, receive, send)
"""
FIXTURE = """
async def stream():
    async with open_test_stream(app) as stream:
        yield stream
"""
USES_FIXTURE = """
async def test_stream(stream):
    assert (await stream.receive()).data == "0"
"""


def run(pytester: pytest.Pytester, mode: str, body: str) -> pytest.RunResult:
    """Run a project with this test file, with both plugins and one of pytest-asyncio's modes."""
    pytester.makepyfile(PROJECT + body)
    scope = "asyncio_default_fixture_loop_scope=function"
    options = ("-o", f"asyncio_mode={mode}", "-o", scope, "-p", "no:cacheprovider")
    return pytester.runpytest_inprocess(*options)


def test_streams_in_tests(pytester: pytest.Pytester) -> None:
    """A test that pytest-asyncio runs opens streams, clients and hubs."""
    result = run(
        pytester,
        "auto",
        """
async def test_stream():
    async with open_test_stream(app) as stream:
        assert (await stream.receive()).data == "0"

async def test_client():
    async with StreamingASGITransport(app) as transport, httpx.AsyncClient(transport=transport) as client:
        async with client.stream("GET", "http://test/") as response:
            assert await anext(response.aiter_lines()) == "data: 0"

async def test_hub():
    async with open_hub() as hub, open_test_stream(EventSourceResponse(hub.subscribe("a"))) as stream:
        await hub.publish("a", "x")
        assert (await stream.receive()).data == "x"
""",
    )
    result.assert_outcomes(passed=3)


def test_a_fixture_of_pytest_asyncio(pytester: pytest.Pytester) -> None:
    """A stream in a fixture of pytest-asyncio's works in the test; its teardown fails with what to write."""
    result = run(pytester, "auto", "@pytest.fixture" + FIXTURE + USES_FIXTURE)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*pytest-asyncio leaves an async fixture in another*"])


def test_a_fixture_of_anyio(pytester: pytest.Pytester) -> None:
    """What the message says works: pytest-asyncio in strict mode, and anyio's plugin for the test and its fixture."""
    backend = '@pytest.fixture\ndef anyio_backend():\n    return "asyncio"\n'
    result = run(pytester, "strict", backend + "@pytest.fixture" + FIXTURE + "@pytest.mark.anyio" + USES_FIXTURE)
    result.assert_outcomes(passed=1)
