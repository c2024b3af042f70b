"""What a short stream writes may leave as one packet: the kernel keeps it until the end, or until there is more."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from sse_trio import CloseReason
from sse_trio._streams.server_send import MOST_JOINED

from ._known_server import KnownServer, response_of

# On trio, as the server that has it.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)]

EVENT = b"data: event\n\n"
HOLD, LET_GO = "hold back", "let go"


class Server(KnownServer):
    """A known server whose every `send` is a packet; at one of its messages it may be stuck until it is aborted."""

    can_hold_back = True

    def __init__(self, *, is_own=True, stuck_at=None, error=None):
        super().__init__(is_own=is_own)
        self.stuck_at = stuck_at
        self.error = error
        self.seen = []
        self.aborted = anyio.Event()

    def hold_back(self):
        self.seen.append(HOLD)

    def let_go(self):
        self.seen.append(LET_GO)

    def abort(self):
        self.aborted.set()
        return True

    async def send(self, message):
        if len([each for each in self.seen if type(each) is bytes]) == self.stuck_at:
            with anyio.CancelScope(shield=True):  # as hypercorn on trio
                await self.aborted.wait()
            raise OSError
        if self.error is not None:
            raise self.error
        self.seen.append(message.get("body", b"head"))

    async def serve_short(self, produce, **options):
        """Serve the producer's response, and return its close reasons."""
        response, reasons = response_of(produce, **options)
        await self.serve(response)
        return reasons


async def short(send_channel):
    await send_channel.send("event")


async def large(send_channel):
    await send_channel.send("x" * MOST_JOINED)


async def begun(send_channel):
    await send_channel.send("event")
    await anyio.sleep(1)


async def test_all_of_it_is_kept_until_the_end():
    """Head, events and final frame are written one after the other, and then the kernel sends them."""
    server = Server()
    assert await server.serve_short(short) == [CloseReason.COMPLETED]
    assert server.seen == [HOLD, b"head", EVENT, b"", LET_GO]


async def test_nothing_to_send_is_kept_too():
    """A stream without an event is a head and a final frame."""
    server = Server()
    await server.serve_short(checkpoint_only, commit_within=None)
    assert server.seen == [HOLD, b"head", b"", LET_GO]


async def checkpoint_only(send_channel):
    await checkpoint()


@pytest.mark.parametrize(
    ("produce", "is_own"), [(short, False), (large, True), (begun, True)], ids=["behind a middleware", "large", "begun"]
)
async def test_nothing_is_kept(produce, is_own):
    """A middleware may wait between two messages, much is several packets anyway, and a head that is sent has left."""
    server = Server(is_own=is_own)
    assert await server.serve_short(produce) == [CloseReason.COMPLETED]
    assert server.seen[-1] == b""
    assert not {HOLD, LET_GO}.intersection(server.seen)


async def test_a_stream_that_goes_on():
    """What has come leaves at once if another task holds a clone of the send end."""

    async def produce(send_channel):
        await send_channel.send("event")
        nursery.start_soon(send_later, send_channel.clone())

    async def send_later(send_channel):
        async with send_channel:
            await anyio.sleep(1)
            assert server.seen == [HOLD, b"head", LET_GO, EVENT]
            await send_channel.send("event")

    server = Server()
    async with anyio.create_task_group() as nursery:
        assert await server.serve_short(produce) == [CloseReason.COMPLETED]
    assert server.seen == [HOLD, b"head", LET_GO, EVENT, EVENT, b""]


async def test_a_client_that_is_gone():
    """Nothing is kept after a `send` that fails: the connection may go on."""
    server = Server(error=OSError())
    assert await server.serve_short(short) == [CloseReason.DISCONNECTED]
    assert server.seen == [HOLD, LET_GO]


@pytest.mark.parametrize("stuck_at", [0, 1, 2], ids=["head", "event", "final frame"])
async def test_a_client_that_takes_nothing(stuck_at):
    """It is dropped within `send_timeout`, whatever the server shields (C11), and nothing is kept after it."""
    server = Server(stuck_at=stuck_at)
    began = anyio.current_time()
    assert await server.serve_short(short, send_timeout=3) == [CloseReason.SEND_TIMEOUT]
    assert anyio.current_time() - began == pytest.approx(3, abs=0.3)
    assert server.seen == [HOLD, *[b"head", EVENT][:stuck_at], LET_GO]


@pytest.mark.parametrize("stuck_at", [0, 1, 2], ids=["head", "event", "final frame"])
async def test_a_cancellation_while_a_client_takes_nothing(stuck_at):
    """A stream that is cancelled then returns within two seconds, though the server shields its write (C11)."""
    server = Server(stuck_at=stuck_at)
    began = anyio.current_time()
    with anyio.move_on_after(5) as scope:
        await server.serve_short(short, send_timeout=None)
    assert scope.cancelled_caught
    assert server.aborted.is_set()
    assert anyio.current_time() - began < 7
    await anyio.sleep(1)
    assert server.seen[-1] == LET_GO
