"""The test kit in a project whose tests pytest-trio runs."""

from __future__ import annotations

import pytest

pytest.importorskip("pytest_trio", reason="pytest-trio is not installed")

PROJECT = """
import pytest, trio
from sse_trio import EventSourceResponse
from sse_trio.testing import open_test_stream

async def tick(send_channel):
    for n in range(1000):
        await send_channel.send(n)
        await trio.sleep(60)

@pytest.fixture
async def stream():
    async with open_test_stream(EventSourceResponse(tick)) as stream:
        yield stream

async def test_an_hour_in_a_fixture(stream, autojump_clock):
    assert [(await stream.receive()).data for _ in range(60)] == [str(n) for n in range(60)]
    assert trio.current_time() >= 59 * 60

async def test_a_stream(autojump_clock):
    async with open_test_stream(EventSourceResponse(tick)) as stream:
        await stream.receive()
        stream.disconnect()
        await stream.wait_closed()
"""


def test_streams_in_tests_and_fixtures(pytester: pytest.Pytester) -> None:
    """Streams are opened in pytest-trio's tests and in its async fixtures, and its clock makes their time virtual."""
    pytester.makepyfile(PROJECT)
    pytester.runpytest_inprocess("-o", "trio_mode=true", "-p", "no:cacheprovider", "-p", "no:asyncio").assert_outcomes(
        passed=2
    )
