"""The single writer: what it sends in which messages, when it is idle, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import BrokenResourceError, ClosedResourceError
from starlette.types import Message

from sse_trio import open_event_channel
from sse_trio._channels import pacer
from sse_trio._groups.group import current_run
from sse_trio._servers.connection import Connection
from sse_trio._streams.pending import Pending
from sse_trio._streams.phases import Outcome
from sse_trio._streams.server_send import Outlet
from sse_trio._streams.writer import Writer
from sse_trio.testing import wait_all_tasks_blocked

pytestmark = pytest.mark.anyio

HEAD: Message = {"type": "http.response.start", "status": 200, "headers": []}


class Served(Connection):
    """A writer, the channel that it writes, and a server and an owner made by hand."""

    def __init__(
        self,
        *,
        head: Message = HEAD,
        opening: bytes = b"",
        unbounded: bool = False,
        keeps_head: bool = False,
        **limits: Any,
    ) -> None:
        super().__init__()
        self.send_channel, self.receive_channel = open_event_channel(**limits)
        self.messages: list[Message] = []
        self.sending = 0
        self.at_gate: Callable[[], object] | None = None
        self.open = anyio.Event()
        self.open.set()
        self.shield = False
        self.flushed = 0
        self.before_final_at: int | None = None
        self.done: list[Outcome | None] = []
        self.send_is_unbounded = unbounded
        self.head_needs_body = keeps_head
        source: Any = self.receive_channel._state
        run = current_run(None)
        self.outlet = Outlet(self.send, head, source, self, run)
        self.writer = Writer(Pending(source, head, opening=opening), self.outlet, run.loop)
        self.writer.own_by(self)

    async def send(self, message: Message) -> None:
        """Take a message when the gate is open."""
        self.sending += 1
        assert self.sending == 1, "two sends at once"
        try:
            await anyio.lowlevel.checkpoint()
            with anyio.CancelScope(shield=self.shield):
                await self.open.wait()
            if self.at_gate is not None:
                self.at_gate()
            self.messages.append(message)
        finally:
            self.sending -= 1

    def close_gate(self, *, shield: bool = False) -> None:
        """Take nothing for now."""
        self.open = anyio.Event()
        self.shield = shield

    async def wait_flushed(self) -> None:
        """Count the flushes."""
        await anyio.lowlevel.checkpoint()
        self.flushed += 1

    async def before_final(self) -> None:
        """Note what had been sent by then."""
        await anyio.lowlevel.checkpoint()
        self.before_final_at = len(self.messages)

    def writer_done(self) -> None:
        """Note how the writer has ended."""
        self.done.append(self.writer.outcome)

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of the messages after the head."""
        return [message["body"] for message in self.messages[1:]]

    async def settle(self) -> None:
        """Let everything happen that can."""
        await wait_all_tasks_blocked()

    def close(self) -> None:
        """Close the channel."""
        self.send_channel.close()
        self.receive_channel.close()


@pytest.fixture
async def serve() -> Any:
    """Makes writers, and closes their channels after the test."""
    made: list[Served] = []

    def serve(*, start: bool = True, **options: Any) -> Served:
        served = Served(**options)
        made.append(served)
        if start:
            served.writer.start()
        return served

    yield serve
    for served in made:
        served.close()


Serve = Callable[..., Served]


# --- what is written


async def test_head_is_held_back(serve: Serve) -> None:
    """Nothing is sent before there is something to send."""
    served = serve()
    await served.settle()
    assert (served.messages, served.writer.has_begun, served.outlet.idle_since) == ([], False, None)
    await served.send_channel.send("event")
    await served.settle()
    assert served.messages == [HEAD, {"type": "http.response.body", "body": b"data: event\n\n", "more_body": True}]
    assert served.writer.has_begun


async def test_head_without_an_event(serve: Serve) -> None:
    """A head that is due is sent alone, because an empty body message would look like an event to some programs."""
    served = serve(opening=b"")
    served.send_channel.started()
    await served.settle()
    assert served.messages == [HEAD]
    served.send_channel.send_nowait("event")
    await served.settle()
    assert served.bodies == [b"data: event\n\n"]


@pytest.mark.parametrize("how", ["a server that keeps it back", "a denial"])
async def test_head_that_the_server_keeps_back(serve: Serve, how: str) -> None:
    """If the server keeps the head back until there is a body, an empty message follows it."""
    denial: Message = {**HEAD, "type": "websocket.http.response.start"}
    served = serve(head=denial, opening=b"") if how == "a denial" else serve(opening=b"", keeps_head=True)
    served.send_channel.started()
    await served.settle()
    assert served.bodies == [b""]


@pytest.mark.parametrize("early", ["event", "started"])
async def test_what_is_there_before_it_starts(serve: Serve, early: str) -> None:
    """A writer that starts late begins with the buffered events."""
    served = serve(start=False)
    if early == "event":
        served.send_channel.send_nowait("event")
    else:
        served.send_channel.started()
    served.writer.start()
    await served.settle()
    assert served.messages[0] == HEAD
    assert served.bodies == {"event": [b"data: event\n\n"], "started": []}[early]


async def test_opening_goes_with_the_first_events(serve: Serve) -> None:
    """The opening notices are in the first body message."""
    served = serve(opening=b"retry: 1\n\n")
    served.send_channel.send_nowait("event")
    await served.settle()
    assert served.bodies == [b"retry: 1\n\ndata: event\n\n"]


async def test_all_that_is_buffered_is_one_message(serve: Serve) -> None:
    """Events that arrive during a write are sent as one message."""
    served = serve()
    served.send_channel.send_nowait("first")
    await served.settle()
    served.close_gate()
    for n in range(4):
        served.send_channel.send_nowait(n)
        await served.settle()
    served.open.set()
    await served.settle()
    assert served.bodies == [b"data: first\n\n", b"data: 0\n\n", b"data: 1\n\ndata: 2\n\ndata: 3\n\n"]


async def test_flood_goes_by_slices(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood is written in messages of many events each, including events of sends that had to wait."""
    monkeypatch.setattr(pacer, "SLICE_SECONDS", 3600.0)  # else a slow machine ends them
    served = serve(max_buffer_size=50)

    async def flood() -> None:
        for n in range(1000):
            await served.send_channel.send(n)

    async with anyio.create_task_group() as tg:
        tg.start_soon(flood)
    await served.settle()
    assert b"".join(served.bodies) == b"".join(b"data: %d\n\n" % n for n in range(1000))
    assert len(served.bodies) <= 50


@pytest.mark.parametrize("size", [0, 1])
async def test_sends_that_wait(serve: Serve, size: int) -> None:
    """With little or no buffer, every event is written in order, and waiting senders are released as it goes on."""
    served = serve(max_buffer_size=size)

    async def send(numbers: range) -> None:
        for n in numbers:
            await served.send_channel.send(n)

    async with anyio.create_task_group() as tg:
        tg.start_soon(send, range(10))
        tg.start_soon(send, range(100, 110))
    await served.settle()
    numbers = [int(line.removeprefix(b"data: ")) for line in b"".join(served.bodies).split(b"\n\n") if line]
    assert [n for n in numbers if n < 100] == [*range(10)]
    assert [n for n in numbers if n >= 100] == [*range(100, 110)]


async def test_denial_of_a_websocket(serve: Serve) -> None:
    """The body messages of a WebSocket's denial match the type of its head."""
    served = serve(head={**HEAD, "type": "websocket.http.response.start"})
    served.send_channel.send_nowait("event")
    served.send_channel.close()
    served.writer.finish()
    await served.settle()
    assert [message["type"] for message in served.messages[1:]] == ["websocket.http.response.body"] * 2


async def test_server_whose_send_is_unbounded(serve: Serve) -> None:
    """If ``send`` never blocks, the writer waits until each message has left."""
    served = serve(unbounded=True)
    served.send_channel.send_nowait("event")
    await served.settle()
    assert (len(served.messages), served.flushed) == (2, 2)


# --- pings and idleness


async def test_idle_since(serve: Serve) -> None:
    """idle_since is the end of the last write; it is unset during a write and before the head."""
    served = serve()
    await anyio.sleep(3)
    assert served.outlet.idle_since is None
    served.send_channel.send_nowait("event")
    await served.settle()
    assert (served.outlet.idle_since, served.outlet.write_began) == (3, None)
    await anyio.sleep(2)
    served.close_gate()
    served.send_channel.send_nowait("event")
    await anyio.sleep(4)
    assert (served.outlet.idle_since, served.outlet.write_began) == (None, 5)
    served.open.set()
    await served.settle()
    assert (served.outlet.idle_since, served.outlet.write_began) == (9, None)


async def test_ping(serve: Serve) -> None:
    """An idle writer writes a ping."""
    served = serve()
    served.send_channel.send_nowait("event")
    await served.settle()
    served.writer.ping(b": ping\n\n")
    await served.settle()
    assert served.bodies == [b"data: event\n\n", b": ping\n\n"]


async def test_ping_with_an_event(serve: Serve) -> None:
    """A ping is dropped if an event is ready by then."""
    served = serve()
    served.send_channel.send_nowait("first")
    await served.settle()
    served.writer.ping(b": ping\n\n")
    served.send_channel.send_nowait("second")
    await served.settle()
    assert served.bodies == [b"data: first\n\n", b"data: second\n\n"]


async def test_ping_while_it_writes(serve: Serve) -> None:
    """A ping that comes during a write waits for the write to end."""
    served = serve()
    served.send_channel.send_nowait("first")
    await served.settle()
    served.close_gate()
    served.send_channel.send_nowait("second")
    await served.settle()
    served.writer.ping(b": ping\n\n")
    await served.settle()
    served.open.set()
    await served.settle()
    assert served.bodies == [b"data: first\n\n", b"data: second\n\n", b": ping\n\n"]


async def test_ping_before_the_head(serve: Serve) -> None:
    """A ping doesn't send the head."""
    served = serve()
    served.writer.ping(b": ping\n\n")
    await served.settle()
    assert served.messages == []


# --- the end


@pytest.mark.parametrize("late", [True, False])
async def test_finish(serve: Serve, late: bool) -> None:
    """finish() writes what is buffered, then the last bytes, then the final frame, flushes, and is done once."""
    served = serve()
    if late:
        await served.settle()
    served.send_channel.send_nowait("event")
    served.send_channel.close()
    served.writer.finish(b"data: last\n\n")
    await served.settle()
    assert served.messages == [
        HEAD,
        {"type": "http.response.body", "body": b"data: event\n\n", "more_body": True},
        {"type": "http.response.body", "body": b"data: last\n\n", "more_body": True},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]
    assert served.outlet.final_began
    assert served.before_final_at == len(served.messages) - 1
    assert served.flushed == 1
    assert served.done == [Outcome.FINISHED]
    served.writer.abandon()
    served.writer.finish()
    served.writer.unpark()
    await served.settle()
    assert served.done == [Outcome.FINISHED]


async def test_finish_waits_for_the_senders(serve: Serve) -> None:
    """With senders that are still open, finish() goes on writing until they are closed."""
    served = serve()
    served.writer.finish()
    for n in range(3):
        await served.settle()
        served.send_channel.send_nowait(n)
    await served.settle()
    assert served.done == []
    served.send_channel.close()
    await served.settle()
    assert served.done == [Outcome.FINISHED]
    assert served.bodies == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n", b""]


async def test_finish_without_the_final_frame(serve: Serve) -> None:
    """A failed stream has no final frame."""
    served = serve()
    served.send_channel.send_nowait("event")
    served.receive_channel._state.refuse_sends()
    served.writer.finish(b"data: error\n\n", cut_after=0)
    await served.settle()
    assert served.bodies == [b"data: event\n\n", b"data: error\n\n"]
    assert served.messages[-1]["more_body"]
    assert (served.done, served.outlet.final_began, served.flushed) == ([Outcome.FINISHED], False, 0)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (OSError(), Outcome.GONE),
        (ConnectionResetError(), Outcome.GONE),
        (BrokenResourceError(), Outcome.GONE),
        (ClosedResourceError(), Outcome.GONE),
        (LookupError(), Outcome.FAILED),
    ],
)
@pytest.mark.parametrize("after", [0, 1, 2])
async def test_send_that_raises(serve: Serve, error: Exception, outcome: Outcome, after: int) -> None:
    """An error of ``send`` ends the writer and is kept, unless it means that the client has disconnected."""
    served = serve()

    def fail() -> None:
        if len(served.messages) == after:
            raise error

    served.at_gate = fail
    served.send_channel.send_nowait("event")
    await served.settle()
    if after == 2:
        served.writer.ping(b": ping\n\n")
        await served.settle()
    assert (served.done, served.writer.outcome) == ([outcome], outcome)
    assert served.writer.error is (error if outcome is Outcome.FAILED else None)
    assert served.outlet.write_began is None
    assert len(served.messages) == after


@pytest.mark.parametrize("when", ["before it starts", "before it runs", "while it rests", "while it writes"])
async def test_abandon(serve: Serve, when: str) -> None:
    """abandon() stops the writer at any time, tells its owner once, and nothing more is sent."""
    served = serve(start=False)
    if when == "before it starts":
        served.writer.abandon()
        served.writer.start()
    elif when == "before it runs":
        served.send_channel.send_nowait("event")
        served.writer.start()
        served.writer.abandon()
    else:
        served.writer.start()
        served.send_channel.send_nowait("event")
        await served.settle()
        if when == "while it writes":
            served.close_gate()
            served.send_channel.send_nowait("event")
            await served.settle()
        served.writer.abandon()
    served.writer.abandon()
    await served.settle()
    assert served.done == [Outcome.ABANDONED]
    sent = len(served.messages)
    assert sent == (2 if when.startswith("while") else 0)
    served.send_channel.send_nowait("event")
    served.writer.unpark()
    await served.settle()
    assert len(served.messages) == sent
    assert served.receive_channel.statistics().tasks_waiting_receive == 0


async def test_an_error_by_which_its_server_says_that_the_client_is_gone(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection knows which errors its server raises for a client that left; they are not failures."""
    served = serve()

    def fail() -> None:
        raise LookupError

    served.at_gate = fail
    monkeypatch.setattr(served, "says_gone", lambda error: isinstance(error, LookupError))
    served.send_channel.send_nowait("event")
    await served.settle()
    assert served.done == [Outcome.GONE]
    assert served.writer.error is None


async def test_abandon_in_a_shielded_write(serve: Serve) -> None:
    """A server that shields its write decides when an abandoned writer ends; after that it sends nothing more."""
    served = serve()
    served.send_channel.send_nowait("event")
    await served.settle()
    served.close_gate(shield=True)
    served.send_channel.send_nowait("stuck")
    await served.settle()
    served.send_channel.send_nowait("next")
    served.writer.abandon()
    await served.settle()
    # asyncio's cancellation is raised once, wherever the task is; trio's waits for the shield's end.
    assert served.done in ([], [Outcome.ABANDONED])
    served.open.set()
    await served.settle()
    assert served.done == [Outcome.ABANDONED]
    assert b"data: next\n\n" not in served.bodies


async def test_abandon_by_the_server(serve: Serve) -> None:
    """A writer that is abandoned inside of the server's `send`, which then returns, ends without another message."""
    served = serve()
    served.send_channel.send_nowait("event")
    await served.settle()
    served.at_gate = served.writer.abandon
    served.send_channel.send_nowait("last")
    await served.settle()
    served.send_channel.send_nowait("never sent")
    await served.settle()
    assert served.done == [Outcome.ABANDONED]
    assert served.bodies == [b"data: event\n\n", b"data: last\n\n"]


async def test_receiver_closed_while_it_rests(serve: Serve) -> None:
    """An idle writer whose receive channel another task closes is woken when it has to finish."""
    served = serve()
    await served.settle()
    served.receive_channel.close()
    served.writer.finish()
    await served.settle()
    assert served.done == [Outcome.FINISHED]


class Abandoning(Served):
    """Its `send` abandons the writer, and then waits."""

    def is_own_send(self, send: object, /) -> bool:
        return True

    async def send(self, message: Message) -> None:
        """Take two messages, and then abandon the writer."""
        if len(self.messages) < 2:
            self.messages.append(message)
            return
        self.writer.abandon()
        self.sending += 1
        try:
            await anyio.sleep_forever()
        finally:
            self.sending -= 1


async def test_abandon_inside_of_a_send() -> None:
    """A writer that is abandoned while its event is written in a send(), and then has to wait, is cancelled."""
    served = Abandoning()
    served.writer.start()
    await served.send_channel.send("first")
    await anyio.sleep(1)
    await served.send_channel.send("second")
    await served.settle()
    assert (served.done, served.sending) == ([Outcome.ABANDONED], 0)
    served.close()
