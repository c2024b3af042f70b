# EventSourceResponse with sse-starlette's constructor. Calling it makes an sse_trio response, and that streams.
#
# Rule 1: as in sse-starlette, everything may change until the response is called: the options are read then.
# Rule 2: content is iterated in the response's own task. The data sender and the watch for a shutdown run beside it and
#         are cancelled when it ends.

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from anyio import CancelScope, Event, create_task_group, move_on_after
from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response

from .._arguments.checks import check_grace, check_interval, check_seconds, shown
from .._channels.send_channel import EventSendChannel
from .._errors import SendTimeoutError
from .._failures import collapse, lone, raise_again
from .._groups.group import StreamGroup
from .._loops.cancellation import guarded
from .._reasons import CloseReason
from .._streams.response import EventSourceResponse as StreamResponse
from .._streams.sources import close_source, iterate
from .._wire import event as _event
from .._wire.event import check_sep
from ._app_status import note_default_group
from ._arguments import check_content, check_functions, check_http, check_shutdown
from ._event import Chunk, ServerSentEvent, ensure_bytes
from ._headers import legal_headers, with_defaults

if TYPE_CHECKING:
    from starlette.background import BackgroundTask
    from starlette.types import Message, Receive, Scope, Send

__all__ = ("EventSourceResponse", "SendTimeoutError")

logger = logging.getLogger("sse_trio")

Content: TypeAlias = AsyncIterable[Any] | Iterable[Any]
"""The items of a stream; ensure_bytes() says what they may be."""


class EventSourceResponse(Response):
    r"""A stream of server-sent events, with the constructor of sse-starlette 3.7.

    Args:
        content: an async iterable, or an iterable, which is iterated in worker threads. Its items are events,
            ``dict``\ s of their fields, ``bytes``, which are sent unchanged, or anything else, whose ``str()`` is the
            data.
        status_code, headers, media_type, background: as for any Starlette response. ``Cache-Control: no-store`` is
            set unless ``headers`` has another value, ``X-Accel-Buffering: no`` and ``Connection: keep-alive`` always.
        ping: seconds, 15 by default, 0 for never.
        sep: the line end on the wire, ``"\r\n"`` by default.
        ping_message_factory: returns the event to send as a ping; by default a comment with the time.
        data_sender_callable: a coroutine function without arguments. It runs beside ``content``, and is cancelled when
            ``content`` ends.
        send_timeout: seconds that one write may take before :exc:`SendTimeoutError` is raised; ``None`` for no limit.
        client_close_handler_callable: awaited with the message ``http.disconnect`` when the client has left.
        shutdown_event: set when the server shuts down, so that ``content`` can send its last events and end.
        shutdown_grace_period: the seconds after which ``content`` is cancelled in a shutdown.
        cleanup_timeout: seconds that the ``aclose()`` of ``content`` may take, ``None`` for no limit.
        group: the :class:`StreamGroup`. sse-starlette has none. Without one, :data:`AppStatus` includes the stream.

    Raises:
        TypeError, ValueError: an option is wrong. This is raised when the response is made.

    What differs from sse-starlette:

    - It runs on trio as well. At a shutdown it ends on every server that ``sse_trio`` knows, with the final chunk.
    - ``ping`` is seconds of silence. A stream that sends events needs no ping.
    - ``content`` runs ahead of its client, by 256 events or 64 KiB, and several events may be in one ASGI message.
    - ``content`` is closed when the stream ends, however it ends. What its ``aclose()`` raises is raised. If it has
      run ahead into its own ``finally``, it is cancelled there: shield a ``finally`` that awaits.
    - ``client_close_handler_callable`` is called after ``content`` has been cancelled and cleaned up, for at most five
      seconds. It is also called if ``send`` finds out that the client has left, which is not an error here.
    - A client that leaves during the grace period of a shutdown doesn't shorten it: the next item finds out.
    - ``Connection`` is left out in HTTP/2 and HTTP/3, which forbid it.
    - A HEAD request never starts ``content`` either; ``send_timeout`` limits the whole answer.
    - :data:`AppStatus` is that of the event loop, not of the process. Nothing in uvicorn is replaced.
    - There are no private methods (``_ping``, ``_stream_response``, ...) to override.
    """

    DEFAULT_PING_INTERVAL: int | float = 15
    DEFAULT_SEPARATOR: str = "\r\n"
    DEFAULT_CLEANUP_TIMEOUT: float = 30.0

    def __init__(
        self,
        content: Content,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = "text/event-stream",
        background: BackgroundTask | None = None,
        ping: float | None = None,
        sep: str | None = None,
        ping_message_factory: Callable[[], ServerSentEvent] | None = None,
        data_sender_callable: Callable[[], Coroutine[None, None, None]] | None = None,
        send_timeout: float | None = None,
        client_close_handler_callable: Callable[[Message], Awaitable[None]] | None = None,
        shutdown_event: Event | None = None,
        shutdown_grace_period: float = 0,
        cleanup_timeout: float | None = DEFAULT_CLEANUP_TIMEOUT,
        *,
        group: StreamGroup | None = None,
    ) -> None:
        check_content(content)
        check_http(status_code, headers, media_type, background)
        check_functions(ping_message_factory, data_sender_callable, client_close_handler_callable)
        check_shutdown(shutdown_event, group)
        self.sep: str = self.DEFAULT_SEPARATOR if sep is None else check_sep(sep)
        if isinstance(content, AsyncIterable):
            self.body_iterator: AsyncIterable[Any] = content
        else:
            self.body_iterator = iterate_in_threadpool(content)
        self.status_code = status_code
        if media_type is not None:  # otherwise the class's own, as in Starlette
            self.media_type = media_type
        self.background = background
        self.data_sender_callable = data_sender_callable
        if send_timeout is not None:
            check_interval("send_timeout", send_timeout, zero=False, none=", or None for no limit")
        self.send_timeout = send_timeout
        self.init_headers(with_defaults(headers))
        self.ping_interval = self.DEFAULT_PING_INTERVAL if ping is None else ping
        self.ping_message_factory = ping_message_factory
        self.client_close_handler_callable = client_close_handler_callable
        check_grace("shutdown_grace_period", shutdown_grace_period)
        self._shutdown_event = shutdown_event
        self._shutdown_grace_period = shutdown_grace_period
        if cleanup_timeout is not None:
            check_seconds("cleanup_timeout", cleanup_timeout, zero=True)
        self._cleanup_timeout = cleanup_timeout
        self._group = group
        self.active: bool = True
        self._close_reason: CloseReason | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.status_code}, {shown(self.body_iterator)}, ping={self.ping_interval}>"

    @property
    def ping_interval(self) -> int | float:
        """Seconds of silence after which a ping is sent, 0 for never. Read when the response is called.

        Raises:
            TypeError, ValueError: the new value is not a number of seconds.
        """
        return self._ping_interval

    @ping_interval.setter
    def ping_interval(self, value: float) -> None:
        check_interval("ping", value, zero=True, none=", 0 to disable pings")
        self._ping_interval = value

    def enable_compression(self, force: bool = False) -> NoReturn:  # noqa: FBT001, FBT002 -- sse-starlette's signature
        """Raise :exc:`NotImplementedError`, as sse-starlette does."""
        del force
        msg = "sse-starlette's responses can't be compressed; write sse_trio.EventSourceResponse(..., compress=...)"
        raise NotImplementedError(msg)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream: the ASGI application.

        Raises:
            SendTimeoutError: the client took nothing for ``send_timeout`` seconds.
            Exception: ``content``, the data sender or one of your functions raised. One error is raised as it is, also
                out of the groups of nurseries.
        """
        response = StreamResponse(
            self._produce,
            status_code=self.status_code,
            ping=self._ping_interval,
            ping_message_factory=self._ping_message,
            send_timeout=self.send_timeout,
            grace=self._shutdown_grace_period,
            on_close=self._stream_closed,
            sep=self.sep,
            group=self._group,
        )
        response.raw_headers = legal_headers(self.raw_headers, scope)
        if self._group is None:
            note_default_group()
        try:
            if scope.get("method", "").upper() == "HEAD":
                await self._answer_head(response, {**scope, "method": "HEAD"}, receive, send)
            else:
                await response(scope, receive, send)
        except BaseException as exc:  # noqa: BLE001 -- raised again, without groups of one, also of the content's own
            raise_again(lone(exc))
        if self._close_reason is CloseReason.SEND_TIMEOUT and self.send_timeout is not None:
            raise SendTimeoutError(self.send_timeout)
        if self.background is not None:
            await self.background()

    async def _answer_head(self, response: StreamResponse, scope: Scope, receive: Receive, send: Send) -> None:
        with move_on_after(self.send_timeout) as deadline:
            await response(scope, receive, send)
        if deadline.cancelled_caught and self.send_timeout is not None:
            raise SendTimeoutError(self.send_timeout)

    async def _produce(self, send_channel: EventSendChannel) -> None:
        send_channel.started()  # the head doesn't wait for an event
        watches = self._shutdown_event is not None or self._shutdown_grace_period > 0
        if self.data_sender_callable is None and not watches:
            await self._send_content(send_channel)
            return
        try:
            async with create_task_group() as nursery:
                if self.data_sender_callable is not None:
                    nursery.start_soon(guarded, "data_sender_callable", self.data_sender_callable)
                if watches:
                    nursery.start_soon(self._watch_closing, send_channel, nursery.cancel_scope)
                await guarded("the content", partial(self._send_content, send_channel))
                nursery.cancel_scope.cancel()
        except BaseException as exc:  # noqa: BLE001 -- raised again, without the nursery's group
            raise_again(collapse(exc))

    async def _send_content(self, send_channel: EventSendChannel) -> None:
        await iterate(self.body_iterator, send_channel, as_sendable=self._chunk, close=self._close_iterable)

    def _chunk(self, item: object) -> Chunk:
        return Chunk(ensure_bytes(item, self.sep))

    async def _close_iterable(self, iterable: object) -> None:
        if await close_source(iterable, self._cleanup_timeout):
            logger.warning("the cleanup of %r was cancelled after %s s", iterable, self._cleanup_timeout)

    async def _watch_closing(self, send_channel: EventSendChannel, content_scope: CancelScope) -> None:
        # `grace` applies to every ending, but here only a shutdown may have a grace period.
        shutting_down = False
        try:
            await send_channel.wait_closing()
        finally:  # without a grace period this is cancelled as it wakes up
            shutting_down = send_channel.close_reason is CloseReason.SHUTDOWN
            if shutting_down and self._shutdown_event is not None:
                self._shutdown_event.set()
        if not shutting_down:
            content_scope.cancel()

    def _ping_message(self) -> _event.ServerSentEvent:
        factory = self.ping_message_factory
        if factory is not None:
            return self._chunk(factory())
        return Chunk(ServerSentEvent(comment=f"ping - {datetime.now(timezone.utc)}", sep=self.sep).encode())

    async def _stream_closed(self, reason: CloseReason) -> None:
        self.active = False
        self._close_reason = reason
        if reason is CloseReason.DISCONNECTED and self.client_close_handler_callable is not None:
            await self.client_close_handler_callable({"type": "http.disconnect"})
