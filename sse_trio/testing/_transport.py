# StreamingASGITransport: httpx to an ASGI application in this process, with the body delivered as it is sent.
#
# httpx.ASGITransport waits for the whole body, so a response from an endless stream never comes back.
#
# Rule 1: the applications run in the transport's own task group, which the `async with` of the httpx client opens.
#         None of them outlives that block, and cancelling the block cancels them.
# Rule 2: closing a response sends http.disconnect and waits for the application's clean-up.
# Rule 3: an exception of the application is raised exactly once: by the request, by the body, or on closing.

from __future__ import annotations

from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, cast

import anyio
import httpx

from .._arguments.checks import check_coroutine_function, check_count, check_seconds, check_text, wrong
from ._exchange import Exchange
from ._scope import check_state, http_scope
from ._task_group import open_task_group

if TYPE_CHECKING:
    import sys
    from collections.abc import AsyncIterator, Generator, Mapping
    from types import TracebackType

    from anyio.abc import TaskGroup
    from starlette.types import ASGIApp, Message

    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self

__all__ = ("StreamingASGITransport",)


class StreamingASGITransport(httpx.AsyncBaseTransport):
    """An httpx transport that calls an ASGI application and delivers its responses as they are sent.

    ::

        transport = StreamingASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            async with client.stream("GET", "/clock") as response:
                async for line in response.aiter_lines():
                    ...

    The applications run in a task group that ``async with`` opens, in the caller's task tree. Closing a response gives
    its application ``http.disconnect`` and waits for it to return. Cancelling a request before its response is there
    cancels the application. Leaving the client closes the responses that are still open.

    httpx's read timeout applies, as over a network (5 s of silence by default); its other timeouts have nothing to
    measure here.

    If the application raises before its head, the request raises the exception. After that the body ends in
    :exc:`httpx.RemoteProtocolError` with the exception as its cause; if the test doesn't read that far, closing the
    response raises the exception.

    Args:
        app: the ASGI application. Its lifespan is not run.
        state: the state that its lifespan yields, for ``request.state``; each request gets a copy, as on a server.
        root_path: the path that the application is mounted at.
        client: host and port of the client, for the scope.
        max_buffer_bytes: unread bytes of a body before ``send`` blocks, like the buffers of a network.
        close_within: seconds that an application has to return after ``http.disconnect``. After that it is cancelled,
            and closing raises an :exc:`AssertionError`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        state: Mapping[str, object] | None = None,
        root_path: str = "",
        client: tuple[str, int] = ("127.0.0.1", 50_000),
        max_buffer_bytes: int = 65_536,
        close_within: float = 10.0,
    ) -> None:
        check_coroutine_function("app", app, "an ASGI application")
        check_text("root_path", root_path)
        check_count("max_buffer_bytes", max_buffer_bytes)
        check_seconds("close_within", close_within, zero=True, none="")
        check_state(state)
        address = cast("object", client)
        if not (isinstance(address, (tuple, list)) and [*map(type, client)] == [str, int]):
            raise wrong(TypeError, "client", "a host and a port, such as ('127.0.0.1', 50_000)", client)
        self._app = app
        self._state = state
        self._root_path = root_path
        self._client = client
        self._max_buffer_bytes = max_buffer_bytes
        self._close_within = close_within
        self._task_group: TaskGroup | None = None
        self._stack = AsyncExitStack()
        self._open_bodies: set[_Body] = set()

    async def __aenter__(self) -> Self:
        self._task_group = await self._stack.enter_async_context(open_task_group())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        async with self._stack:
            self._task_group = None
            if exc_type is None:
                for body in list(self._open_bodies):
                    await body.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Start the application and wait for its head.

        Raises:
            RuntimeError: the client was not entered with ``async with``.
            ReadTimeout: no head within the request's read timeout.
            Exception: the exception that the application raised before its head.
        """
        exchange = self._start(request)
        head = await self._wait_head(exchange, request)
        body = _Body(exchange, request, self._close_within, self._open_bodies)
        return httpx.Response(head["status"], headers=head.get("headers", []), stream=body, request=request)

    def _start(self, request: httpx.Request) -> Exchange:
        if self._task_group is None:
            raise RuntimeError(
                "the applications need a task group to run in; write "
                "`async with httpx.AsyncClient(transport=StreamingASGITransport(app)) as client:`"
            )
        url = request.url
        scope = http_scope(
            request.method,
            url.path,
            raw_path=url.raw_path.partition(b"?")[0],
            query_string=url.query,
            headers=request.headers.raw,
            scheme=url.scheme,
            server=(url.host, url.port),
            client=self._client,
            root_path=self._root_path,
            state=self._state,
        )
        assert isinstance(request.stream, httpx.AsyncByteStream)
        exchange = Exchange(self._app, scope, request.stream, max_unread_bytes=self._max_buffer_bytes)
        self._task_group.start_soon(exchange.run)
        return exchange

    async def _wait_head(self, exchange: Exchange, request: httpx.Request) -> Message:
        try:
            with _read_timeout(request):
                head = await exchange.wait_head()
        except httpx.ReadTimeout:
            await exchange.close(self._close_within)
            raise
        except BaseException:
            await exchange.cancel_and_wait()
            raise
        if head is not None:
            return head
        if exchange.exception is not None:
            raise exchange.exception
        raise httpx.RemoteProtocolError("the application returned without sending http.response.start", request=request)


class _Body(httpx.AsyncByteStream):
    """The body of a response that is still being sent."""

    def __init__(self, exchange: Exchange, request: httpx.Request, close_within: float, registry: set[_Body]) -> None:
        self._exchange = exchange
        self._request = request
        self._close_within = close_within
        self._registry = registry
        self._is_reported = False
        registry.add(self)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            with _read_timeout(self._request):
                return await self._exchange.next_chunk()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None
        except anyio.BrokenResourceError as exc:
            self._is_reported = True
            raise httpx.RemoteProtocolError(str(exc), request=self._request) from self._exchange.exception

    async def aclose(self) -> None:
        self._registry.discard(self)
        await self._exchange.close(self._close_within)
        if self._exchange.faults:
            raise AssertionError("; ".join(self._exchange.faults)) from self._exchange.exception
        if self._exchange.exception is not None and not self._is_reported:
            raise self._exchange.exception


@contextmanager
def _read_timeout(request: httpx.Request) -> Generator[None, None, None]:
    seconds = request.extensions.get("timeout", {}).get("read")
    with anyio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise httpx.ReadTimeout(f"no byte of the response for {seconds:g} s", request=request)
