# open_test_stream(): an event stream of an ASGI application, and faults to inject. No HTTP client, no sockets.
#
# Rule 1: the application runs in a task of the caller, and has ended when the block is left.
# Rule 2: an exception of the application, and a breach of ASGI (above all two sends at once), is raised by the call
#         that the test is waiting in, or at the end of the block at the latest.
# Rule 3: a fault happens between two steps of the application, never within one: each method that injects a fault is
#         synchronous.
#
# Over 250 lines, because TestStream shows all that a test needs in one class, and most of it is documentation.

from __future__ import annotations

import json as json_module
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, final

import anyio
from starlette.datastructures import Headers

from .._arguments.checks import (
    check_coroutine_function,
    check_flag,
    check_instance,
    check_seconds,
    check_text,
    shown,
)
from .._failures import append_context
from .._wire.decoder import EventDecoder
from ._exchange import Exchange
from ._lifespan import open_lifespan
from ._request import MISSING, body_of, scope_of
from ._scope import check_state
from ._server import BridgedServer, PlainServer
from ._task_group import open_task_group

if TYPE_CHECKING:
    import sys
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Message

    from .._reasons import CloseReason
    from .._wire.received import ReceivedEvent

    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self

__all__ = ("TestStream", "open_test_stream")

_NO_LIMIT = 1 << 62  # the application under test is the test's own
COMPRESSED = (
    "the body is compressed, because the request has an Accept-Encoding; leave that header out to receive events, or "
    "read `body`, or use httpx with StreamingASGITransport, which decodes it"
)


@asynccontextmanager
async def open_test_stream(
    app: ASGIApp,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
    params: Mapping[str, object] | Sequence[tuple[str, object]] | None = None,
    json: object = MISSING,
    content: bytes | str = b"",
    state: Mapping[str, object] | None = None,
    lifespan: bool = False,
    wait_head: bool = True,
    bridge: bool = True,
    close_within: float = 10.0,
) -> AsyncGenerator[TestStream, None]:
    """Open an event stream of an application, as a client would.

    ::

        async with open_test_stream(app, "/clock") as stream:
            assert stream.status_code == 200
            event = await stream.receive()
            stream.disconnect()
            await stream.wait_closed()
        assert stream.close_reason is CloseReason.DISCONNECTED

    The application runs in the caller's task tree. Leaving the block disconnects and waits until the application has
    returned. The test fails in any case if the application had two calls of ``send`` under way at once or broke the
    ASGI specification in another way.

    Args:
        app: an ASGI application, or a response.
        path: the path, with a query if there is one.
        method: the HTTP method.
        headers: headers of the request. ``Host``, ``Accept`` (of an event stream) and, with ``json``, ``Content-Type``
            are added if they are missing.
        params: query parameters, added to those in ``path``.
        json: a value to send as the body, with its content type. Give this or ``content``.
        content: the body of the request.
        state: the state that the application's lifespan yields, for ``request.state``: see docs/testing.md.
        lifespan: whether to run the application's lifespan around the stream. What it yields is in ``request.state``
            and in ``stream.state``.
        wait_head: wait for the status and the headers first. If ``False``, nothing has run when the block begins.
        bridge: whether the stream runs behind ``ServerBridge``, as on uvicorn and hypercorn, or on an unknown server.
        close_within: seconds that the application has to return after a disconnect. After that it is cancelled, and
            the test fails.

    Raises:
        AssertionError: the application broke the ASGI specification, or did not return in time.
        Exception: the application's exception, unless a method of the stream has raised it already. An exception of
            the block (a failed assertion about the status, say) becomes its context in the traceback.
        RuntimeError: the block was left in a different task from the one that entered it.
    """
    check_coroutine_function("app", app, "an ASGI application, or a response")
    for name, text in (("path", path), ("method", method)):
        check_text(name, text)
    for name, flag in (("lifespan", lifespan), ("wait_head", wait_head), ("bridge", bridge)):
        check_flag(name, flag)
    check_seconds("close_within", close_within, zero=True, none="")
    check_state(state)
    body = body_of(json, content)
    own_headers = () if json is MISSING else (("content-type", "application/json"),)
    scope = scope_of(method, path, headers, params, state, own_headers)
    exchange = Exchange(app, scope, body)
    stream = TestStream(exchange, BridgedServer(exchange) if bridge else PlainServer(exchange))
    if not lifespan:
        async with _serve(exchange, stream, wait_head=wait_head, close_within=close_within):
            yield stream
        return
    async with open_lifespan(app, close_within) as running:
        running.on_failure = exchange.fail
        scope["state"] = {**running.state, **scope["state"]}
        async with _serve(exchange, stream, wait_head=wait_head, close_within=close_within):
            yield stream


@asynccontextmanager
async def _serve(
    exchange: Exchange, stream: TestStream, *, wait_head: bool, close_within: float
) -> AsyncGenerator[None, None]:
    try:
        async with open_task_group() as task_group:
            task_group.start_soon(exchange.run)
            try:
                if wait_head:
                    await stream.wait_head()
                yield
            except BaseException as error:
                if _is_failure(error):
                    await exchange.close(close_within)  # not cancelled: the application may be about to raise
                raise
            await exchange.close(close_within)
    except BaseException as error:
        cause = exchange.unreported
        if cause is None or cause is error or not _is_failure(error):
            raise
        append_context(error, cause.__context__)  # Python would replace it by the test's exception
        raise cause  # noqa: B904 -- the cause is raised itself, because it made the test fail
    _check(exchange)


def _is_failure(error: BaseException) -> bool:
    """Whether the test has failed, in a pytest.fail() or a pytest.raises() too, whose exception is not an Exception.

    pytest.skip() and pytest.xfail() are no failures. pytest itself need not be installed, so the name must do.
    """
    return isinstance(error, Exception) or type(error).__name__ == "Failed"


@final
class TestStream:
    """A stream that :func:`open_test_stream` opened: what has arrived, and the faults to inject."""

    __test__ = False  # pytest would take it for a test

    def __init__(self, exchange: Exchange, server: PlainServer) -> None:
        self._exchange = exchange
        self._server = server
        self._decoder = EventDecoder(max_event_size=_NO_LIMIT)
        self._events: deque[ReceivedEvent] = deque()

    def __repr__(self) -> str:
        scope, head = self._exchange.scope, self._exchange.head
        status = "no status yet" if head is None else f"status {head['status']}"
        end = "returned" if self.is_closed else "open"
        if self.close_reason is not None:
            end = self.close_reason.value
        return f"<TestStream {scope['method']} {scope['path']!r}: {status}, {len(self.body)} bytes, {end}>"

    # What arrived

    @property
    def messages(self) -> list[Message]:
        """The ASGI messages that the client got, in order. A message whose ``send`` still waits is not among them."""
        return list(self._exchange.messages)

    @property
    def status_code(self) -> int:
        """The status code. :exc:`RuntimeError` if it has not arrived."""
        status: int = self._head()["status"]
        return status

    @property
    def headers(self) -> Headers:
        """The headers; names match in any case. :exc:`RuntimeError` if they have not arrived."""
        return Headers(raw=list(self._head().get("headers", [])))

    @property
    def body(self) -> bytes:
        """The bytes of the body so far, including comments and pings."""
        return b"".join(message.get("body", b"") for message in self._exchange.messages)

    async def read(self) -> bytes:
        """Block until the response is complete, and return its body: for an answer that is not a stream.

        A checkpoint if it has to wait.

        Raises:
            ClosedResourceError: the test disconnected.
            BrokenResourceError: the response was cut off.
            Exception: the application's exception.
        """
        try:
            while True:
                await self._next_chunk()
        except anyio.EndOfStream:
            return self.body

    async def json(self) -> Any:
        """Block until the response is complete, and return the value of its JSON body. Raises what ``read()`` raises.

        Raises:
            ValueError: the body is not JSON.
        """
        body = await self.read()
        try:
            return json_module.loads(body)
        except ValueError as exc:
            msg = (
                f"the body must be JSON; got {shown(body)}, with status {self.status_code}; write `await stream.read()`"
            )
            raise ValueError(msg) from exc

    @property
    def state(self) -> dict[str, Any]:
        """What the lifespan yields and what was given as ``state=``: the attributes of ``request.state``."""
        state: dict[str, Any] = self._exchange.scope["state"]
        return state

    async def receive(self) -> ReceivedEvent:
        """Block until an event arrives; comments and pings don't count.

        A checkpoint if it has to wait. Cancellation: no event is lost.

        Raises:
            EndOfStream: the response is complete. (``async for`` just ends.) If it is not an event stream, the error
                says what it is.
            ClosedResourceError: the test disconnected.
            BrokenResourceError: the response was cut off.
            ValueError: the body is compressed, because the request has an ``Accept-Encoding``.
            Exception: the application's exception.
        """
        while not self._events:
            chunk = await self._next_chunk()
            if "content-encoding" in self.headers:
                raise ValueError(COMPRESSED)
            self._events.extend(self._decoder.feed(chunk))
        return self._events.popleft()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedEvent:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def wait_head(self) -> None:
        """Block until the status and the headers have arrived.

        Raises:
            BrokenResourceError: the response ended before them.
            Exception: the exception that the application raised before them.
        """
        if await self._exchange.wait_head() is None:
            self._raise_exception()
            raise anyio.BrokenResourceError("the response ended before its status and headers")

    async def wait_closed(self) -> None:
        """Block until the application has returned, clean-up included. Raises its exception."""
        await self._exchange.wait_finished()
        self._raise_exception()

    # Its state

    @property
    def is_sending(self) -> bool:
        """Whether a ``send`` of the application is under way; a stalled one is, too."""
        return self._exchange.is_sending

    @property
    def is_aborted(self) -> bool:
        """Whether the stream made the server drop the connection."""
        return self._exchange.is_aborted

    @property
    def is_closed(self) -> bool:
        """Whether the application has returned."""
        return self._exchange.is_finished

    @property
    def close_reason(self) -> CloseReason | None:
        """Why the stream ended; ``None`` before that, and for a response that is not a stream of sse_trio."""
        return self._server.close_reason

    # Faults

    def disconnect(self) -> None:
        """Disconnect the client: ``receive`` returns ``http.disconnect``, and later sends go nowhere."""
        self._exchange.disconnect()

    def stall(self, *, shield: bool = False) -> None:
        """Stop reading: every ``send`` waits, until :meth:`resume` or the end of the connection.

        Args:
            shield: the server shields the wait from cancellation, as hypercorn's trio worker does.
        """
        check_flag("shield", shield)
        self._exchange.stall(shield=shield)

    def resume(self) -> None:
        """Read again."""
        self._exchange.resume()

    def fail_send(self, exc: Exception) -> None:
        """Make every ``send`` raise ``exc`` from now on, including one that waits."""
        check_instance("exc", exc, Exception, "an exception, such as OSError()")
        self._exchange.fail_send(exc)

    def request_shutdown(self) -> None:
        """Let the server begin its shutdown, as ``ServerBridge`` announces it to the streams.

        Raises:
            RuntimeError: with ``bridge=False`` there is no way to announce it.
        """
        self._server.request_shutdown()

    def cancel(self) -> None:
        """Cancel the application from outside, as servers do after their shutdown timeout."""
        self._exchange.cancel()

    # Internals

    def _head(self) -> Message:
        head = self._exchange.head
        if head is None:
            raise RuntimeError("nothing of the response has arrived; `await stream.wait_head()` first")
        return head

    async def _next_chunk(self) -> bytes:
        try:
            return await self._exchange.next_chunk()
        except (anyio.EndOfStream, anyio.BrokenResourceError) as exc:
            ended = exc
        # Outside the handler, so that the exception keeps its own context. Also after a complete response: a framework
        # that answers an exception with a 500 raises it afterwards.
        self._raise_exception()
        if isinstance(ended, anyio.BrokenResourceError) and self._exchange.is_left:
            raise anyio.ClosedResourceError("this test has disconnected, so nothing more arrives")
        if isinstance(ended, anyio.EndOfStream):
            raise anyio.EndOfStream(*self._why_no_events())
        raise ended

    def _why_no_events(self) -> tuple[str, ...]:
        kind = self.headers.get("content-type", "no content type")
        if kind.startswith("text/event-stream"):
            return ()
        return (
            f"the answer is not an event stream: {self.status_code}, {kind}; write `await stream.read()` to see it",
        )

    def _raise_exception(self) -> None:
        if self._exchange.exception is not None:
            self._exchange.is_reported = True
            raise self._exchange.exception


def _check(exchange: Exchange) -> None:
    if exchange.faults:
        raise AssertionError("; ".join(exchange.faults)) from exchange.exception
    if exchange.unreported is not None:
        raise exchange.unreported
