"""Whose cancellation it is (C12, C13): the stream's own ends it, one from outside is raised, any other is a failure."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from starlette.types import Message

from sse_trio import CloseReason, EventSendChannel, EventSourceResponse, open_event_channel
from sse_trio._loops.cancellation import CancelRequests
from sse_trio._loops.current import current_loop
from sse_trio.testing import virtual_backend

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

pytestmark = pytest.mark.anyio

FINAL = {"type": "http.response.body", "body": b"", "more_body": False}
counts = pytest.mark.skipif(sys.version_info < (3, 11), reason="not applicable: tasks count from Python 3.11 on")


@pytest.fixture(params=["asyncio", "trio", "asyncio+uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Virtual time, and uvloop with a real clock."""
    return ("asyncio", {"use_uvloop": True}) if request.param.endswith("uvloop") else virtual_backend(request.param)


@pytest.fixture
def only_asyncio(anyio_backend: tuple[str, object]) -> None:
    """For what only asyncio has."""
    if anyio_backend[0] == "trio":
        pytest.skip("not applicable: trio's cancellations are all of scopes")


class Server:
    """Takes everything and remembers how the stream ended."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.reasons: list[CloseReason] = []
        self.has_event = anyio.Event()
        self.gone = anyio.Event()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        self.sent.append(message)
        if message.get("body"):
            self.has_event.set()

    async def on_close(self, reason: CloseReason) -> None:
        self.reasons.append(reason)

    async def serve(self, source: Any, *args: Any, **options: Any) -> None:
        response = EventSourceResponse(source, *args, on_close=self.on_close, **options)
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await response(scope, self.receive, self.send)

    async def leave_after_event(self) -> None:
        await self.has_event.wait()
        await anyio.sleep(0.1)  # it looks out for its client by then
        self.gone.set()


async def stray_cancellation() -> None:
    """Raise a cancellation that was not requested for the running task: a cancelled future's, another scope's."""
    if current_loop().keeps_idle_tasks:  # trio
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep(1)
            except trio.Cancelled as exc:
                stray = exc
        raise stray
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def idle(send_channel: EventSendChannel | None = None) -> None:
    await anyio.sleep_forever()


async def events(send_channel: EventSendChannel, *then: Callable[[], Awaitable[object]]) -> None:
    """Send an event, wait until it is written, and do this."""
    await send_channel.send("event")
    await anyio.sleep(0.02)
    for each in then:
        await each()


async def generated(*before: str) -> AsyncIterator[str]:
    for each in before:
        yield each
        await anyio.sleep(0.02)
    await stray_cancellation()


# --- strays


@pytest.mark.parametrize("kind", ["producer", "generator", "beside", "own channel"])
@pytest.mark.parametrize("after_head", [False, True])
async def test_stray_cancellation_is_a_failure(kind: str, after_head: bool) -> None:
    """Before the head nothing is sent, after it the response is cut, and the cancellation is the cause of the error."""
    server, ended = Server(), []
    send_channel, receive_channel = open_event_channel()

    async def produce(send_channel: EventSendChannel) -> None:
        if after_head:
            await events(send_channel)
        await stray_cancellation()

    async def beside() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async def produce_outside() -> None:
        await produce(send_channel)

    with pytest.raises(RuntimeError, match="was not requested") as info, anyio.fail_after(5):
        if kind == "producer":
            await server.serve(produce)
        elif kind == "generator":
            await server.serve(generated(*["event"] * after_head))
        elif kind == "beside":
            await server.serve(produce, producers=[beside])
        else:
            await server.serve(receive_channel, producers=[produce_outside])
    assert isinstance(info.value.__cause__, anyio.get_cancelled_exc_class())
    assert server.reasons == [CloseReason.FAILED]
    assert [message.get("body") for message in server.sent] == ([None, b"data: event\n\n"] if after_head else [])
    assert ended == [True] * (kind == "beside")
    send_channel.close()


async def test_stray_cancellation_while_the_stream_ends() -> None:
    """A stray cancellation in a producer that the stream has cancelled is part of that ending, and not a failure."""
    server = Server()

    async def produce(send_channel: EventSendChannel) -> None:
        try:
            await events(send_channel, idle)
        finally:
            await stray_cancellation()

    async with anyio.create_task_group() as nursery:
        nursery.start_soon(server.leave_after_event)
        await server.serve(produce)
    assert server.reasons == [CloseReason.DISCONNECTED]


async def test_group_of_stray_cancellations() -> None:
    """An exception group that contains only cancellations is judged like a single one."""
    server = Server()

    async def produce(send_channel: EventSendChannel) -> None:
        try:
            await stray_cancellation()
        except anyio.get_cancelled_exc_class() as exc:
            raise BaseExceptionGroup("of a nursery's", [exc]) from None

    with pytest.raises(RuntimeError, match="was not requested"):
        await server.serve(produce)
    assert (server.sent, server.reasons) == ([], [CloseReason.FAILED])


@pytest.mark.parametrize("where", ["send", "receive", pytest.param("receive of a channel", marks=counts)])
async def test_stray_cancellation_in_the_server(where: str) -> None:
    """A stray cancellation of the server's own code also ends the stream as a failure, without waiting."""
    server = Server()

    async def send(message: Message) -> None:
        await stray_cancellation()

    async def receive() -> Message:
        await stray_cancellation()
        raise AssertionError

    setattr(server, where.partition(" ")[0], send if where == "send" else receive)
    send_channel, receive_channel = open_event_channel()
    with (
        send_channel,
        pytest.raises(RuntimeError, match=f"was not requested.*`{where.partition(' ')[0]}`"),
        anyio.fail_after(5),
    ):
        await server.serve(
            receive_channel if where.endswith("channel") else events, *([] if "channel" in where else [idle])
        )
    assert server.reasons == [CloseReason.FAILED]


# --- from outside


@pytest.mark.parametrize("after_head", [False, True])
@pytest.mark.parametrize("producers", [1, 2])
async def test_cancelled_by_a_scope_outside(after_head: bool, producers: int) -> None:
    """A stream cancelled before its head sends nothing, so you can answer; after it, it ends with the final frame."""
    server = Server()
    send_channel, receive_channel = open_event_channel()
    with send_channel, anyio.move_on_after(0.1) as scope:
        if after_head:
            send_channel.send_nowait("event")
        await server.serve(receive_channel, producers=[idle] * producers)
    assert scope.cancelled_caught
    assert server.reasons == [CloseReason.CANCELLED]
    assert server.sent[-1:] == ([FINAL] if after_head else [])


@counts
async def test_cancelled_with_the_first_event() -> None:
    """A stream that is cancelled before its head sends no event either, even if a producer's cleanup sends one."""
    server = Server()

    async def produce(send_channel: EventSendChannel) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            send_channel.send_nowait("event")

    async def send_at_once(message: Message) -> None:
        server.sent.append(message)

    server.send = send_at_once  # type: ignore[method-assign]
    with anyio.move_on_after(0.02):
        await server.serve(produce)
    assert (server.sent, server.reasons) == ([], [CloseReason.CANCELLED])


@pytest.mark.usefixtures("only_asyncio")
@pytest.mark.parametrize("after_head", [False, True])
@pytest.mark.parametrize("producers", [1, 2])
async def test_cancelled_by_task_cancel(after_head: bool, producers: int) -> None:
    """asyncio's own cancellation comes out of the response unchanged."""
    server = Server()
    task = asyncio.ensure_future(
        server.serve(events if after_head else idle, *[idle] * after_head, producers=[idle] * (producers - 1))
    )
    await (server.has_event.wait() if after_head else anyio.sleep(0.02))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.reasons == [CloseReason.CANCELLED]
    assert server.sent[-1:] == ([FINAL] if after_head else [])


@counts
@pytest.mark.usefixtures("only_asyncio")
@pytest.mark.parametrize("after_head", [False, True])
async def test_asyncio_timeout_around_the_response(after_head: bool) -> None:
    """An asyncio timeout around the response raises TimeoutError; before the head you can answer 504."""
    server = Server()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await server.serve(events if after_head else idle, *[idle] * after_head)
    assert server.reasons == [CloseReason.CANCELLED]
    assert server.sent[-1:] == ([FINAL] if after_head else [])
    assert current_cancelling() == 0


# --- what a producer leaves in asyncio's count


def current_cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def handle_task_group() -> None:
    """Handle a task group's failure, which leaves a request in the count on Python 3.11 and 3.12."""

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise ValueError

    try:
        async with asyncio.TaskGroup() as nursery:
            nursery.create_task(asyncio.sleep(9))
            nursery.create_task(fail())
    except BaseExceptionGroup:
        pass


async def handle_timeout() -> None:
    """Handle a timeout."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anyio.sleep_forever()


async def swallow_cancel() -> None:
    """Handle what cannot be told from a cancellation from outside, and leave the request in the count."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await anyio.sleep(1)
    except asyncio.CancelledError:
        pass


HANDLED = [handle_task_group, handle_timeout, swallow_cancel]


@counts
@pytest.mark.usefixtures("only_asyncio")
@pytest.mark.parametrize("handled", HANDLED)
@pytest.mark.parametrize("ending", ["disconnect", "lifetime", "complete", "fail"])
@pytest.mark.parametrize("producers", [1, 2])
async def test_handled_cancellation_is_over(handled: Any, ending: str, producers: int) -> None:
    """A cancellation that a producer has handled affects neither later endings nor later counts."""
    server = Server()
    beside = [handled] * (producers - 1)

    async def fail() -> None:
        raise LookupError

    async with anyio.create_task_group() as nursery:
        if ending == "disconnect":
            nursery.start_soon(server.leave_after_event)
            await server.serve(events, handled, idle, producers=beside)
        elif ending == "lifetime":
            await server.serve(events, handled, idle, producers=beside, max_lifetime=0.1)
        elif ending == "complete":
            await server.serve(events, handled, producers=beside)
        else:
            with pytest.raises(LookupError):
                await server.serve(events, handled, fail, producers=beside)
    assert current_cancelling() == 0
    reason = {"disconnect": "disconnected", "complete": "completed", "fail": "failed"}.get(ending, ending)
    assert server.reasons == [CloseReason(reason)]


@counts
@pytest.mark.usefixtures("only_asyncio")
@pytest.mark.parametrize("before", [0, 1])
async def test_count_of_the_task_begins_anywhere(before: int) -> None:
    """A cancellation request that the task had before its stream is neither acted on nor taken back."""

    async def serve() -> None:
        if before:
            await swallow_cancel()
        nonlocal count
        await server.serve(events, swallow_cancel)
        count = current_cancelling()

    server, count = Server(), None
    await asyncio.ensure_future(serve())
    assert (server.reasons, count) == ([CloseReason.COMPLETED], before)


@counts
@pytest.mark.usefixtures("only_asyncio")
@pytest.mark.parametrize("first", ["leave", "cancel"])
@pytest.mark.parametrize("handled", [None, swallow_cancel])
@pytest.mark.parametrize("passes", [0, 1, 5])
async def test_cancelled_as_the_client_leaves(first: str, handled: Any, passes: int) -> None:
    """A ``Task.cancel()`` that meets a disconnect is not lost, whichever comes first, even after a handled one."""
    server = Server()

    async def produce(send_channel: EventSendChannel) -> None:
        try:
            await events(send_channel, *[handled] * (handled is not None), idle)
        finally:
            with anyio.move_on_after(0.05, shield=True):
                await anyio.sleep(0.05)

    task = asyncio.ensure_future(server.serve(produce))
    await server.has_event.wait()
    await anyio.sleep(0.1)
    steps = [server.gone.set, task.cancel]
    for step in steps if first == "leave" else reversed(steps):
        step()
        for _ in range(passes):
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(server.reasons) == 1


@counts
@pytest.mark.usefixtures("only_asyncio")
@pytest.mark.parametrize("left", [False, True])
async def test_request_that_is_not_delivered_yet(left: bool) -> None:
    """If a producer's last step cancels its own task, that cancellation comes out and is not taken back."""
    server = Server()

    async def produce(send_channel: EventSendChannel) -> None:
        try:
            await events(send_channel, *[idle] * left)
        except asyncio.CancelledError:
            pass
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async with anyio.create_task_group() as nursery:
        nursery.start_soon(server.leave_after_event)
        with pytest.raises(asyncio.CancelledError):
            await server.serve(produce)
    assert len(server.reasons) == 1


@pytest.mark.usefixtures("only_asyncio")
async def test_writer_that_is_cancelled() -> None:
    """A stream ends when another task cancels its writer, because nothing more would be written."""
    server = Server()

    async def send(message: Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    server.send = send  # type: ignore[method-assign]
    with anyio.fail_after(5):
        if sys.version_info >= (3, 11):
            await server.serve(events, idle)
            assert server.reasons == [CloseReason.CANCELLED]
        else:  # where it can't be told from a stray
            with pytest.raises(RuntimeError, match="was not requested"):
                await server.serve(events, idle)


# --- asyncio before Python 3.11


@pytest.fixture
async def cannot_tell() -> AsyncIterator[None]:
    """A loop whose tasks don't count their cancellations."""
    loop: Any = current_loop()
    told, counting_task = loop.tells_cancellations, type(loop).counting_task
    loop.tells_cancellations = False
    type(loop).counting_task = lambda self: None
    yield
    loop.tells_cancellations, type(loop).counting_task = told, counting_task


@pytest.mark.usefixtures("cannot_tell", "only_asyncio")
@pytest.mark.parametrize("after_head", [False, True])
async def test_stray_where_nothing_is_counted(after_head: bool) -> None:
    """If tasks don't count their cancellations, the producer gets its own task, so a stray one is still a failure."""
    server = Server()
    with pytest.raises(RuntimeError, match="was not requested"):
        await server.serve(generated(*["event"] * after_head))
    assert server.reasons == [CloseReason.FAILED]
    assert FINAL not in server.sent


@pytest.mark.usefixtures("cannot_tell", "only_asyncio")
@pytest.mark.parametrize("all_tasks", [False, True])
async def test_cancelled_where_nothing_is_counted(all_tasks: bool) -> None:
    """There a cancellation from outside still works, even if ``asyncio.run()`` cancels each task separately."""
    server = Server()
    others = asyncio.all_tasks()
    task = asyncio.ensure_future(server.serve(events, idle))
    await server.has_event.wait()
    await anyio.sleep(0.01)
    for each in (asyncio.all_tasks() - others) if all_tasks else [task]:
        each.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.reasons == [CloseReason.CANCELLED]


@pytest.mark.usefixtures("cannot_tell", "only_asyncio")
async def test_ended_where_nothing_is_counted() -> None:
    """There, too, the stream's own cancellation counts as its ending, with producers and without."""
    send_channel, receive_channel = open_event_channel()
    with send_channel:
        for source in (events, receive_channel):
            server = Server()
            async with anyio.create_task_group() as nursery:
                nursery.start_soon(server.leave_after_event)
                if source is receive_channel:
                    send_channel.send_nowait("event")
                await server.serve(source, *[idle] * (source is events))
            assert server.reasons == [CloseReason.DISCONNECTED]


@pytest.mark.usefixtures("cannot_tell", "only_asyncio")
async def test_what_cannot_be_told_is_raised() -> None:
    """In the stream's own task a cancellation can come from anywhere, so it is always raised."""
    requests = CancelRequests(current_loop())
    error = asyncio.CancelledError()
    assert await requests.settle(error) is error
    requests.note_own()
    assert await requests.settle(error) is error
