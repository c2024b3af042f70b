# What a run that may not go on has kept: everything up to the event that it must not keep.

from __future__ import annotations

import anyio
import pytest

from sse_trio import ServerSentEvent

from .conftest import open_process
from .test_runs import make_holding, plain, watch

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["here", "elsewhere"])
def store(request, make_remote_store):
    return None if request.param == "here" else make_holding(make_remote_store())


@pytest.mark.parametrize("seconds", [0, 1])
@pytest.mark.parametrize("limits", [{"max_events": 5}, {"max_bytes": 5 * len(b"data: 0\n\n")}])
async def test_a_run_that_sends_too_much(store, limits, seconds):
    """It keeps what it may, however fast it sends, and has failed."""

    async def produce(send_channel):
        for n in range(9):
            await send_channel.send(str(n))
            if seconds:
                await anyio.sleep(seconds)

    async with open_process(store, **limits) as runs:
        await runs.start("a", produce)
        assert plain(await watch(runs, "a")) == [*"01234", "failed"]
        assert (await runs.status("a")).reason == next(iter(limits))


async def test_an_event_that_must_not_be_kept(store):
    """What was sent before an event with an id is kept, however soon before."""

    async def produce(send_channel):
        for event in ("0", "1", ServerSentEvent("2", id="mine"), "3"):
            await send_channel.send(event)

    async with open_process(store) as runs:
        await runs.start("a", produce)
        assert plain(await watch(runs, "a")) == ["0", "1", "failed"]
