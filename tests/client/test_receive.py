"""receive(): the next event, for a time, without losing the connection."""

from __future__ import annotations

import anyio
import httpx
import pytest

from sse_trio.client import ConnectionState, EventSourceError, open_event_source
from sse_trio.client._lasting import LastingStep

pytestmark = pytest.mark.anyio


async def test_a_timeout_keeps_the_connection(serve, stream):
    """An event that arrives after many timeouts comes over the first connection, and none is lost."""
    server = serve(stream(5, "data: x\n\n", 5, "data: y\n\ndata: z\n\n", 100))
    async with server.client() as client, open_event_source("/", client=client) as source:
        got = []
        while len(got) < 3:
            try:
                got.append(((await source.receive(timeout=1.5)).data, anyio.current_time()))
            except TimeoutError:
                got.extend([])
        assert got == [("x", 5), ("y", 10), ("z", 10)]
        assert source.attempt == 1
    assert len(server.requests) == 1


async def test_with_iterating_and_without_a_timeout(serve, stream):
    """receive() without a timeout is the iteration, and after one that timed out both go on with the same wait."""
    server = serve(stream("data: w\n\n", 5, "data: x\n\n", 5, "data: y\n\n", 5, "data: z\n\n"))
    async with server.client() as client, open_event_source("/", client=client, reconnect=False) as source:
        assert (await source.receive()).data == "w"
        with pytest.raises(TimeoutError):
            await source.receive(timeout=0)
        assert (await anext(source)).data == "x"
        with pytest.raises(TimeoutError):
            await source.receive(timeout=1)
        assert (await source.receive()).data == "y"
        assert (await source.receive(timeout=9)).data == "z"
        for timeout in (None, 1):
            with pytest.raises(anyio.EndOfStream):
                await source.receive(timeout=timeout)
    assert len(server.requests) == 1


async def test_it_reconnects(serve, stream):
    """If a connection breaks between two calls, the next call reconnects, and an error comes out of the next call."""
    server = serve(stream(1, httpx.ReadError("reset")), stream("data: x\n\n", 1, httpx.ReadError("reset")))
    async with server.client() as client, open_event_source("/", client=client, retry=1) as source:
        with pytest.raises(TimeoutError):
            await source.receive(timeout=0.5)
        await anyio.sleep(5)
        assert (await source.receive(timeout=5)).data == "x"
    server = serve(stream(1, httpx.ReadError("reset")))
    async with server.client() as client, open_event_source("/", client=client, reconnect=False) as source:
        with pytest.raises(TimeoutError):
            await source.receive(timeout=0.5)
        await anyio.sleep(5)
        with pytest.raises(EventSourceError):
            await source.receive(timeout=0.5)


@pytest.mark.parametrize("leave", ["block", "close", "cancel"])
async def test_leaving_ends_what_still_waits(serve, stream, leave):
    """However the source is left after a timeout, nothing is left behind: no task, and no open body (see serve())."""
    server = serve(stream(1000))
    with anyio.CancelScope() as scope:
        async with server.client() as client, open_event_source("/", client=client) as source:
            with pytest.raises(TimeoutError):
                await source.receive(timeout=1)
            assert server.open_bodies == 1
            if leave == "close":
                source.close()
                with pytest.raises(anyio.EndOfStream):
                    await source.receive(timeout=1)
            elif leave == "cancel":
                scope.cancel()
    assert server.open_bodies == 0
    assert anyio.current_time() == 1


async def test_cancelling_keeps_the_connection(serve, stream):
    """Cancelling a receive() with a timeout keeps the connection, as the timeout does."""
    server = serve(stream(5, "data: x\n\n", 100))
    async with server.client() as client, open_event_source("/", client=client) as source:
        with anyio.move_on_after(1):
            await source.receive(timeout=1000)
        assert (await source.receive(timeout=1000)).data == "x"
    assert len(server.requests) == 1


async def test_one_at_a_time(serve, stream):
    """A second task that receives at the same time gets an error, with a timeout as well."""
    server = serve(stream(1000))
    async with (
        server.client() as client,
        open_event_source("/", client=client) as source,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(expect_timeout, source)
        await anyio.sleep(1)
        with pytest.raises(anyio.BusyResourceError):
            await source.receive(timeout=1)


async def expect_timeout(source):
    with pytest.raises(TimeoutError):
        await source.receive(timeout=3)


async def test_what_on_state_change_raises_comes_out(serve, stream):
    """An exception of on_state_change comes out of the next receive()."""

    def fail(source):
        if source.attempt == 2 and source.state is ConnectionState.CONNECTING:
            raise LookupError("the caller's")

    server = serve(stream(2))
    async with server.client() as client, open_event_source("/", client=client, on_state_change=fail) as source:
        with pytest.raises(TimeoutError):
            await source.receive(timeout=1)
        with pytest.raises(LookupError):
            await source.receive(timeout=5)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("5", TypeError), (True, TypeError)],
)
async def test_a_timeout_that_makes_no_sense(serve, stream, timeout, error):
    """A timeout that makes no sense raises, and changes nothing."""
    server = serve(stream("data: x\n\n"))
    async with server.client() as client, open_event_source("/", client=client) as source:
        with pytest.raises(error, match="timeout must be .* seconds.*, or None to wait for ever; got "):
            await source.receive(timeout=timeout)
        assert (await source.receive(timeout=1)).data == "x"


async def test_a_lasting_step_that_is_closed():
    """Closing cancels the step and waits for its end; without a step it does nothing."""
    ended = []

    async def step():
        try:
            await anyio.sleep(100)
        finally:
            ended.append(anyio.current_time())

    lasting = LastingStep()
    await lasting.aclose()
    lasting.start(step)
    await anyio.sleep(1)
    await lasting.aclose()
    assert ended == [1]
    assert not lasting.is_pending


async def test_a_lasting_step_whose_run_ends():
    """A step that is cancelled from outside, as at the end of the run, ends without an error."""
    lasting = LastingStep()
    lasting.start(anyio.sleep_forever)
    await anyio.sleep(1)
    lasting._task.cancel()
    await lasting.wait()
    assert not lasting.is_pending
