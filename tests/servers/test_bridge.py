"""ServerBridge: what it changes for an application, what it leaves alone, and C10, the two readers of one `receive`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from sse_trio._servers.bridge import ServerBridge
from sse_trio._servers.discovery import find_connection

from ._packages import by_package

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from starlette.types import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio

DISCONNECT: Message = {"type": "http.disconnect"}


def body(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


class FakeCycle:
    """What uvicorn has behind `receive`, as far as the bridge looks: messages come when the test puts them."""

    __module__ = "uvicorn.fake"

    def __init__(self, *messages: Message) -> None:
        self.disconnected = False
        self.pulls = 0  # calls of receive under way
        self.pulled = 0  # messages handed out
        self.put, self._get = anyio.create_memory_object_stream[Any](100)
        for message in messages:
            self.put.send_nowait(message)

    async def receive(self) -> Message:
        assert self.pulls == 0, "two calls of the server's receive at once"
        self.pulls += 1
        try:
            message: Message = await self._get.receive()
        finally:
            self.pulls -= 1
        self.pulled += 1
        return message

    async def send(self, message: Message) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.put.close()
        self._get.close()


@pytest.fixture
def http_scope() -> Scope:
    return {"type": "http", "extensions": {"http.response.trailers": {}}}


async def call_bridged(cycle: FakeCycle, scope: Scope, use: Callable[[Scope, Receive], Awaitable[None]]) -> None:
    """Call `use` as the application behind the bridge, and close the fake after it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert send == cycle.send
        await use(scope, receive)

    try:
        with anyio.fail_after(5):
            await ServerBridge(app)(scope, cycle.receive, cycle.send)
    finally:
        cycle.close()


def waiter(scope: Scope) -> Callable[[], Coroutine[Any, Any, None]]:
    connection = find_connection(scope, None, None)  # type: ignore[arg-type]
    assert connection.has_inbox
    return connection.wait_disconnect


async def settle() -> None:
    for _ in range(100):
        await checkpoint()


async def test_scope_gets_an_extension_and_keeps_its_own(http_scope: Scope) -> None:
    """The application sees the scope with the connection added; the server's own extensions are not written to."""
    of_the_server = http_scope["extensions"]

    async def use(scope: Scope, _receive: Receive) -> None:
        assert set(scope["extensions"]) == {"http.response.trailers", "sse_trio"}
        assert find_connection(scope, None, None) is scope["extensions"]["sse_trio"]["connection"]  # type: ignore[arg-type]

    await call_bridged(FakeCycle(), http_scope, use)
    assert set(of_the_server) == {"http.response.trailers"}


@pytest.mark.parametrize(
    ("express", "version", "is_direct"), [(True, "1.1", True), (True, "1.0", False), (False, "1.1", False)]
)
async def test_direct_writes(
    http_scope: Scope, express: bool, version: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `express`, the bridge writes directly over HTTP/1.1, in turn with the application's `send`."""
    monkeypatch.setattr(FakeCycle, "send", by_package("uvicorn.fake", FakeCycle.send))
    cycle = FakeCycle()
    for name in ("transport", "chunked_encoding", "response_started", "response_complete"):
        setattr(cycle, name, None)

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        direct_writer = scope["extensions"]["sse_trio"]["connection"].direct_writer
        assert (direct_writer is not None) == is_direct
        assert (send != cycle.send) == is_direct

    await ServerBridge(app, express=express)({**http_scope, "http_version": version}, cycle.receive, cycle.send)
    cycle.close()


def test_repr() -> None:
    """The bridge says what it wraps, and how."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError

    assert repr(ServerBridge(app, express=True)) == f"ServerBridge({app!r}, express=True)"


async def test_second_bridge_adds_nothing(http_scope: Scope) -> None:
    """A bridge inside a bridge leaves the outer one's connection and receive in place."""
    seen: list[tuple[object, object]] = []

    async def inner(scope: Scope, receive: Receive, _send: Send) -> None:
        seen.append((scope["extensions"]["sse_trio"]["connection"], receive))

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["extensions"]["sse_trio"]["connection"], receive))
        await ServerBridge(inner)(scope, receive, send)

    cycle = FakeCycle()
    await ServerBridge(outer)(http_scope, cycle.receive, cycle.send)
    cycle.close()
    assert seen[0] == seen[1]


@pytest.mark.parametrize("extensions", [{}, {"extensions": None}, {"extensions": {"x": {}}}])
async def test_unknown_server_gets_its_own_receive_back(extensions: dict[str, Any]) -> None:
    """On an unknown server the application gets its own callables, and a connection that can do nothing more."""

    async def receive() -> Message:
        raise NotImplementedError

    async def send(message: Message) -> None:
        raise NotImplementedError

    async def app(scope: Scope, given_receive: Receive, given_send: Send) -> None:
        assert (given_receive, given_send) == (receive, send)
        connection = find_connection(scope, given_receive, given_send)
        assert not connection.has_inbox
        assert connection.abort() is False

    await ServerBridge(app)({"type": "http", **extensions}, receive, send)


async def test_websocket_keeps_its_receive() -> None:
    """A WebSocket's scope gets the connection, for denial responses, but its messages stay untouched."""
    cycle = FakeCycle()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (receive, send) == (cycle.receive, cycle.send)
        assert "sse_trio" in scope["extensions"]
        assert not find_connection(scope, receive, send).has_inbox

    await ServerBridge(app)({"type": "websocket"}, cycle.receive, cycle.send)
    cycle.close()


async def test_lifespan_is_untouched() -> None:
    """The lifespan's scope is passed on as the same object."""
    lifespan = {"type": "lifespan"}
    cycle = FakeCycle()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope is lifespan
        assert (receive, send) == (cycle.receive, cycle.send)

    await ServerBridge(app)(lifespan, cycle.receive, cycle.send)
    cycle.close()


async def test_body_is_read_in_order_while_disconnect_is_awaited(http_scope: Scope) -> None:
    """A producer gets every body message in order, even if the stream called receive first."""
    cycle = FakeCycle(body(b"a"), body(b"b"))
    order: list[object] = []

    async def use(scope: Scope, receive: Receive) -> None:
        async def wait() -> None:
            await waiter(scope)()
            order.append("disconnected")

        async with anyio.create_task_group() as nursery:
            nursery.start_soon(wait)
            await settle()
            order.extend([(await receive())["body"], (await receive())["body"]])
            cycle.put.send_nowait(body(b"c", more=False))
            order.append((await receive())["body"])
            cycle.put.send_nowait(DISCONNECT)

    await call_bridged(cycle, http_scope, use)
    assert order == [b"a", b"b", b"c", "disconnected"]


async def test_body_behind_which_the_client_left_is_still_read(http_scope: Scope) -> None:
    """The disconnect overtakes parked messages for the waiting stream, never for a reader of the body."""
    cycle = FakeCycle(body(b"a", more=False), DISCONNECT)

    async def use(scope: Scope, receive: Receive) -> None:
        await waiter(scope)()
        assert await receive() == body(b"a", more=False)
        assert await receive() == DISCONNECT
        assert await receive() == DISCONNECT, "a server like hypercorn says it once; asking again must not hang"
        await waiter(scope)()

    await call_bridged(cycle, http_scope, use)


async def test_both_readers_wait_on_one_call(http_scope: Scope) -> None:
    """If a reader and a stream wait, one call of the server's receive serves both (the fake asserts it)."""
    cycle = FakeCycle()

    async def use(scope: Scope, receive: Receive) -> None:
        async def read() -> None:
            assert await receive() == DISCONNECT

        async with anyio.create_task_group() as nursery:
            nursery.start_soon(waiter(scope))
            nursery.start_soon(waiter(scope))
            nursery.start_soon(read)
            await settle()
            assert cycle.pulls == 1
            cycle.put.send_nowait(DISCONNECT)

    await call_bridged(cycle, http_scope, use)


@pytest.mark.parametrize("first", ["reader", "waiter"])
async def test_cancelled_call_is_taken_over(http_scope: Scope, first: str) -> None:
    """If the reader inside the server's receive is cancelled, the other one takes over, and nothing is lost."""
    cycle = FakeCycle()
    got: list[Message] = []

    async def use(scope: Scope, receive: Receive) -> None:
        async def read() -> None:
            got.append(await receive())

        pulling, waiting = (read, waiter(scope)) if first == "reader" else (waiter(scope), read)
        async with anyio.create_task_group() as nursery:
            with anyio.CancelScope() as cancelled:
                async with anyio.create_task_group() as inner:
                    inner.start_soon(pulling)
                    await settle()
                    nursery.start_soon(waiting)
                    await settle()
                    cancelled.cancel()
            await settle()
            assert cycle.pulls == 1
            cycle.put.send_nowait(body(b"a", more=False))
            cycle.put.send_nowait(DISCONNECT)
        if first == "reader":
            await read()

    await call_bridged(cycle, http_scope, use)
    assert got == [body(b"a", more=False)]


async def test_read_ahead_is_bounded(http_scope: Scope) -> None:
    """The bridge reads 64 KiB ahead, then only as fast as the application; nothing is lost."""
    cycle = FakeCycle(*[body(bytes([n]) * 20_000) for n in range(10)], body(b"", more=False), DISCONNECT)

    async def use(scope: Scope, receive: Receive) -> None:
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(waiter(scope))
            await settle()
            assert cycle.pulled == 4, "the message that passes the bound is the last one"
            assert (await receive())["body"][:1] == b"\0"
            await settle()
            assert cycle.pulled == 5, "there is room again"
            assert [(await receive())["body"][:1] for _ in range(9)] == [bytes([n]) for n in range(1, 10)]
            assert await receive() == body(b"", more=False)

    await call_bridged(cycle, http_scope, use)


async def test_read_ahead_counts_small_messages(http_scope: Scope) -> None:
    """A body that arrives byte by byte is bounded, too, because a parked message costs more than its body."""
    cycle = FakeCycle(*[body(b"x")] * 90)
    cycle.put.send_nowait(body(b"x" * 50_000))
    cycle.put.send_nowait(body(b"never read ahead"))

    async def use(scope: Scope, _receive: Receive) -> None:
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(waiter(scope))
            await settle()
            assert cycle.pulled == 91
            nursery.cancel_scope.cancel()

    await call_bridged(cycle, http_scope, use)


async def test_client_that_left_an_unread_body_is_noticed(http_scope: Scope) -> None:
    """Behind an unread body, a client is known to be gone when a write of the server's fails; then the stream ends."""
    cycle = FakeCycle(body(b"x" * 70_000), body(b"unread"), DISCONNECT)

    async def use(scope: Scope, receive: Receive) -> None:
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(waiter(scope))
            nursery.start_soon(waiter(scope))
            await settle()
            assert cycle.pulled == 1
            await anyio.sleep(3)
            cycle.disconnected = True
        assert len((await receive())["body"]) == 70_000

    await call_bridged(cycle, http_scope, use)


async def test_failing_receive_fails_its_caller(http_scope: Scope) -> None:
    """An exception of the server's receive reaches its caller, and the next caller asks the server again."""
    cycle = FakeCycle()

    async def use(_scope: Scope, receive: Receive) -> None:
        cycle.put.close()
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await receive()

    await call_bridged(cycle, http_scope, use)


async def test_is_disconnected_works_under_a_cancelled_scope(http_scope: Scope) -> None:
    """Starlette asks for the disconnect inside a cancelled scope, so a known one is answered without waiting."""
    cycle = FakeCycle(DISCONNECT)

    async def use(scope: Scope, receive: Receive) -> None:
        await waiter(scope)()
        message = None
        with anyio.CancelScope() as scope_of_starlette:
            scope_of_starlette.cancel()
            message = await receive()
        assert message == DISCONNECT

    await call_bridged(cycle, http_scope, use)
