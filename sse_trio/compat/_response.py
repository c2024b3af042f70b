# EventSourceResponse with sse-starlette's constructor. It says what is meant in sse_trio's words; that one streams.
#
# Rule 1: everything may be changed until the response is called, as there: only then are the options read.
# Rule 2: content is iterated in the response's own task, and what runs beside it (the data sender, who looks out for a
#         shutdown) goes when it ends.

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping
from datetime import datetime, timezone
from functools import partial
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from anyio import CancelScope, Event, create_task_group, move_on_after
from starlette.concurrency import iterate_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from .._arguments.checks import (
    check_coroutine_function,
    check_function,
    check_grace,
    check_instance,
    check_interval,
    check_seconds,
    wrong,
)
from .._arguments.http import check_background, check_headers, check_media_type, check_status_code
from .._channels.ends import EventSendChannel
from .._errors import SendTimeoutError
from .._failures import collapse, raise_again
from .._groups.group import StreamGroup
from .._loops.cancellation import guarded
from .._reasons import CloseReason
from .._streams.response import EventSourceResponse as StreamResponse
from .._streams.sources import close_source, iterate
from .._wire import event as _event
from .._wire.event import check_sep
from ._app_status import note_default_group
from ._event import Chunk, ServerSentEvent, ensure_bytes

if TYPE_CHECKING:
    from starlette.background import BackgroundTask
    from starlette.types import Message, Receive, Scope, Send

__all__ = ("EventSourceResponse", "SendTimeoutError")

logger = logging.getLogger("sse_trio")

Content: TypeAlias = AsyncIterable[Any] | Iterable[Any]
"""What is streamed; for its items see ensure_bytes()."""


class EventSourceResponse(Response):
    r"""A stream of server-sent events, made as sse-starlette's 3.7 is.

    Args:
        content: an async iterable, or an iterable, which is iterated in worker threads. Its items are events,
            ``dict``\ s of their fields, ``bytes`` as they are, or anything that ``str()`` makes data of.
        status_code, headers, media_type, background: as for any Starlette response. ``Cache-Control: no-store`` is
            set unless ``headers`` says else, ``X-Accel-Buffering: no`` and ``Connection: keep-alive`` in any case.
        ping: seconds, 15 by default, 0 for never.
        sep: the line end on the wire, ``"\r\n"`` by default.
        ping_message_factory: returns what is sent as a ping; by default a comment with the time.
        data_sender_callable: a coroutine function without arguments that runs beside ``content``, and no longer.
        send_timeout: seconds that one write may take, ``None`` for any time. Then :exc:`SendTimeoutError` is raised.
        client_close_handler_callable: awaited with the message ``http.disconnect`` when the client has left.
        shutdown_event: set when the server shuts down, so that ``content`` can say goodbye and end,
        shutdown_grace_period: for which it has so many seconds before it is cancelled.
        cleanup_timeout: seconds that ``content`` may take for its ``aclose()``, ``None`` for any time.
        group: the :class:`StreamGroup`. sse-starlette has none; without one, :data:`AppStatus` speaks of the stream.

    Raises:
        TypeError, ValueError: an option that makes no sense, when the response is made.

    What it doesn't mean the same way:

    - It runs on trio as well, and ends at a shutdown on every server that ``sse_trio`` knows, with the final chunk.
    - ``ping`` is seconds of silence. Events make a ping needless.
    - ``content`` runs ahead of its client, by 256 events or 64 KiB, and several events may be in one ASGI message.
    - ``content`` is closed when the stream ends, however it ends. What its ``aclose()`` raises is raised. Where it has
      run ahead into its own ``finally``, it is cancelled there: a ``finally`` that awaits shields itself.
    - ``client_close_handler_callable`` is called when ``content`` has been cancelled and cleaned up, for at most five
      seconds; also where it is ``send`` that finds the client gone, which is no error here.
    - In the grace period of a shutdown, a client that leaves doesn't cut it short: the next item finds it gone.
    - ``Connection`` is left out in HTTP/2 and HTTP/3, which forbid it.
    - On HEAD, too, ``content`` is never begun; ``send_timeout`` is for the whole of the answer.
    - :data:`AppStatus` is that of the event loop, not of the process. Nothing of uvicorn is replaced.
    - Private methods (``_ping``, ``_stream_response``, ...) aren't there to be overridden.
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
        _check_content(content)
        _check_http(status_code, headers, media_type, background)
        _check_functions(ping_message_factory, data_sender_callable, client_close_handler_callable)
        _check_shutdown(shutdown_event, group)
        self.sep: str = self.DEFAULT_SEPARATOR if sep is None else check_sep(sep)
        if isinstance(content, AsyncIterable):
            self.body_iterator: AsyncIterable[Any] = content
        else:
            self.body_iterator = iterate_in_threadpool(content)
        self.status_code = status_code
        if media_type is not None:  # else that of the class, as in Starlette
            self.media_type = media_type
        self.background = background
        self.data_sender_callable = data_sender_callable
        if send_timeout is not None:
            check_interval("send_timeout", send_timeout, zero=False, none=", or None for no limit")
        self.send_timeout = send_timeout
        self.init_headers(_with_defaults(headers))
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

    @property
    def ping_interval(self) -> int | float:
        """Seconds of silence after which a ping is sent, 0 for never. Read when the response is called.

        Raises:
            TypeError, ValueError: set to what is no number of seconds.
        """
        return self._ping_interval

    @ping_interval.setter
    def ping_interval(self, value: float) -> None:
        check_interval("ping", value, zero=True, none=", 0 to disable pings")
        self._ping_interval = value

    def enable_compression(self, force: bool = False) -> NoReturn:  # noqa: FBT001, FBT002 -- sse-starlette's signature
        """Raise :exc:`NotImplementedError`, as sse-starlette does."""
        del force
        msg = "there is no compression here, as sse-starlette's has none; see compress= of sse_trio.EventSourceResponse"
        raise NotImplementedError(msg)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream, as ASGI says.

        Raises:
            SendTimeoutError: the client took nothing for ``send_timeout`` seconds.
            Exception: what ``content``, the data sender or a function that was given raised, a single one bare.
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
        response.raw_headers = _legal_headers(self.raw_headers, scope)
        if self._group is None:
            note_default_group()
        if scope.get("method", "").upper() == "HEAD":
            await self._answer_head(response, {**scope, "method": "HEAD"}, receive, send)
        else:
            await response(scope, receive, send)
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
        send_channel.started()  # the head waits for no event
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
        except BaseException as exc:  # noqa: BLE001 -- raised again, without the nursery's own layer
            raise_again(collapse(exc))

    async def _send_content(self, send_channel: EventSendChannel) -> None:
        await iterate(self.body_iterator, send_channel, as_sendable=self._chunk, close=self._close_iterable)

    def _chunk(self, item: object) -> Chunk:
        return Chunk(ensure_bytes(item, self.sep))

    async def _close_iterable(self, iterable: object) -> None:
        if await close_source(iterable, self._cleanup_timeout):
            logger.warning("the cleanup of %r was cancelled after %s s", iterable, self._cleanup_timeout)

    async def _watch_closing(self, send_channel: EventSendChannel, content_scope: CancelScope) -> None:
        # `grace` is for every ending, and here only a shutdown is to have one.
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


def _check_content(content: object) -> None:
    if not isinstance(content, (AsyncIterable, Iterable)):
        if iscoroutine(content):
            content.close()
        raise wrong(TypeError, "content", "an async iterable or an iterable: call the generator function", content)


def _check_http(status_code: object, headers: object, media_type: object, background: object) -> None:
    check_status_code(status_code)
    if headers is not None:
        check_headers(headers)
    if media_type is not None:
        check_media_type(media_type)
    if background is not None:
        check_background(background)


def _check_shutdown(event: object, group: object) -> None:
    if event is not None and (isinstance(event, type) or not hasattr(event, "set")):
        raise wrong(TypeError, "shutdown_event", "an anyio.Event, or None", event)
    if group is not None:
        check_instance("group", group, StreamGroup, "a StreamGroup, or None for the default one")


def _check_functions(factory: object, data_sender: object, close_handler: object) -> None:
    if factory is not None:
        check_function("ping_message_factory", factory)
    if data_sender is not None:
        check_coroutine_function("data_sender_callable", data_sender)
    if close_handler is not None:
        check_coroutine_function("client_close_handler_callable", close_handler)


def _with_defaults(headers: Mapping[str, str] | None) -> MutableHeaders:
    all_headers = MutableHeaders()
    if headers is not None:
        all_headers.update(headers)
    all_headers.setdefault("Cache-Control", "no-store")
    all_headers["Connection"] = "keep-alive"
    all_headers["X-Accel-Buffering"] = "no"
    return all_headers


def _legal_headers(raw_headers: list[tuple[bytes, bytes]], scope: Scope) -> list[tuple[bytes, bytes]]:
    # RFC 9113 section 8.2.2 and RFC 9114 section 4.2: a message with a Connection header is malformed.
    if scope.get("http_version", "1.1").startswith("1"):
        return raw_headers
    return [(name, value) for name, value in raw_headers if name != b"connection"]
