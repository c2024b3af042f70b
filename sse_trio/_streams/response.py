# EventSourceResponse: a stream as a Starlette response. sources.py says what it may be made of, options.py checks its
# options, head.py has its headers, and stream.py the life of the stream.
#
# EventSourceResponse is long because its parameters and their documentation are.

from __future__ import annotations

import datetime
from collections.abc import AsyncIterable, Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import is_
from typing import TYPE_CHECKING, Any, TypeAlias

from anyio import get_cancelled_exc_class
from starlette.requests import Request
from starlette.responses import Response

from .._arguments.checks import innermost
from .._arguments.http import check_background, check_headers, check_status_code
from .._arguments.moments import seconds_since_1970
from .._channels.ends import state_of
from .._channels.overflow import Overflow
from .._channels.receive_channel import EventReceiveChannel
from .._channels.send_channel import EventSendChannel
from .._channels.source import LiveSource
from .._channels.state import ChannelState
from .._compression.coder import Coder, ConnectionCoder
from .._compression.codings import SHARED_CODINGS, Coding
from .._compression.shared import new_shared_coder
from .._groups.group import StreamGroup, group_state_of, run_of
from .._groups.run import Farewell
from .._hubs.subscription import Subscription, source_of
from .._reasons import CloseReason
from .._servers.middleware import count_base_middlewares
from .._wire.event import Sendable, ServerSentEvent, TextErrors
from .head import COMPRESSED_RAW_HEADERS, RAW_HEADERS, negotiate, new_head
from .hints import add_hints
from .options import NO_LABELS, StreamOptions
from .sources import (
    NO_SOURCE,
    ChannelOptions,
    Producer,
    Source,
    check_producers,
    check_source,
    close_source,
    one_source,
    open_source,
)
from .stream import Stream
from .writer import CLIENT_GONE

if TYPE_CHECKING:
    from starlette.background import BackgroundTask
    from starlette.types import Message, Receive, Scope, Send
    from typing_extensions import TypeVarTuple, Unpack

    from .._groups.admission import Place

    Ts = TypeVarTuple("Ts")  # the arguments of a producer after its channel

__all__ = ("EventSourceResponse",)

Unopened: TypeAlias = tuple[Source, tuple[object, ...], Sequence[Producer], ChannelOptions]
"""What the source is opened from when the response is served."""


class EventSourceResponse(Response):
    """A stream of server-sent events.

    The response owns the nursery in which the producers run. When the stream ends, because the producers have
    finished, the client disconnects, the server shuts down or a write times out, the producers are cancelled, and
    their cleanup has run before the response returns.

    Args:
        source: a coroutine function, called as ``source(send_channel, *args)`` in the response's nursery; its channel
            is closed when it returns. Or a receive channel: that of :func:`open_event_channel`, an anyio object stream,
            or a trio memory channel. Or an async iterable, such as an async generator, which is closed in the task
            that iterates it. Or an iterator, such as a generator, which runs in a worker thread.
        content: the source under the name that frameworks use. With ``response_class=EventSourceResponse``, FastAPI
            gives it the generator of a path operation with ``yield``.
        producers: coroutine functions without arguments that run in the same nursery, for a source that is a channel.
        status_code, headers, background: as for any Starlette response. ``background`` runs after every ending except
            a failure. Unless ``headers`` has other values, the response has ``Cache-Control: no-store, no-transform``
            (with ``compress`` only ``no-store``), ``X-Accel-Buffering: no`` and ``X-Content-Type-Options: nosniff``.
            A status without a body, such as 204, is an error.
        ping: seconds of silence after which a ping is sent; ``None`` or ``0`` disables pings.
        ping_message_factory: returns the event to send as a ping. The default ping is the comment ``: ping``.
        send_timeout: seconds that one write may take before the client counts as stalled; ``None`` for no limit.
        commit_within: the status and headers are sent with the first event, at ``send_channel.started()``, or after
            this many seconds. Until then a producer's exception is raised from the response, with nothing sent.
            ``None`` sends them only for an event or ``started()``.
        grace: seconds that producers have to finish at a disconnect, shutdown, lifetime or kick, before they are
            cancelled.
        max_lifetime: seconds after which the stream is ended, at a random point in the last fifth.
        expires_at: the moment at which the stream is ended, an aware ``datetime`` or seconds since 1970: when the
            client's token expires, say. Exact, where ``max_lifetime`` is spread; the earlier of the two counts. A
            moment that has passed ends the stream at once.
        retry: milliseconds; the client's reconnection time, sent at the start.
        farewell: the last event at a shutdown, lifetime, kick or cancellation; or a function that takes the
            :class:`CloseReason` and returns the event, or ``None``.
        on_error: takes the exception of a producer that failed after the start; returns a last event, or ``None``. By
            default the client learns nothing about the exception.
        on_close: awaited once with the :class:`CloseReason`, shielded, for at most five seconds. Also after a HEAD
            request.
        sep: the line end on the wire.
        max_buffer_size, max_buffer_bytes: the limits of the channel that is opened for a producer or an async
            iterable. It holds one slice of a flood, see :meth:`EventSendChannel.send`.
        overflow, conflate: what that channel does when the client is slower than the producer, as in
            :func:`open_event_channel`.
        labels: passed to the predicate of ``StreamGroup.kick()``.
        group: the :class:`StreamGroup` of the stream. By default, that of the event-loop run.
        compress: content codings to offer, ``"zstd"``, ``"br"`` or ``"gzip"``, in order of preference; ``None`` for no
            compression. A client that accepts one (RFC 9110 section 12.5.3) gets it, and can decode each event when it
            arrives. Not used if ``Cache-Control`` is ``no-transform`` here or in the request. Takes memory for each
            stream; docs/compression.md explains when not to use it.
        errors: for the text that a producer sends or an async iterable yields, as in :class:`ServerSentEvent`:
            ``"strict"`` raises an error for a lone surrogate, ``"replace"`` writes U+FFFD in its place. If the source
            is a receive channel, pass it to :func:`open_event_channel`.

    Raises:
        TypeError, ValueError: an option is invalid. Raised when the response is made.
        ImportError: the library of a coding is not installed; ``sse-trio[compress]`` has all of them. Raised when the
            response is made.

    A response serves one request; calling it again raises :exc:`RuntimeError`. The call raises the producers'
    exceptions: one as it is, several as a group; :exc:`StreamRefusedError` if the group refuses the stream, with
    nothing sent and nothing started; :exc:`SendTimeoutError` if a stalled client could not be dropped in another way;
    and cancellation, after a bounded farewell. A client that disconnects is not an error.
    """

    media_type: str | None = "text/event-stream"

    def __init__(
        self,
        source: Callable[[EventSendChannel, Unpack[Ts]], Awaitable[object]]
        | EventReceiveChannel
        | Subscription
        | AsyncIterable[Sendable]
        | Iterator[Sendable] = NO_SOURCE,
        /,
        *args: Unpack[Ts],
        content: EventReceiveChannel | Subscription | AsyncIterable[Sendable] | Iterator[Sendable] = NO_SOURCE,
        producers: Sequence[Producer] = (),
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
        ping: float | None = 15.0,
        ping_message_factory: Callable[[], ServerSentEvent] | None = None,
        send_timeout: float | None = 30.0,
        commit_within: float | None = 0.5,
        grace: float = 0.0,
        max_lifetime: float | None = None,
        expires_at: datetime.datetime | float | None = None,
        retry: int | None = None,
        farewell: Farewell | None = None,
        on_error: Callable[[Exception], ServerSentEvent | None] | None = None,
        on_close: Callable[[CloseReason], Awaitable[object]] | None = None,
        sep: str = "\n",
        max_buffer_size: float = 256,
        max_buffer_bytes: float = 65_536,
        overflow: Overflow = "wait",
        conflate: Callable[[ServerSentEvent], Hashable] | None = None,
        labels: Mapping[str, str] | None = None,
        group: StreamGroup | None = None,
        compress: Sequence[Coding] | None = None,
        errors: TextErrors = "strict",
    ) -> None:
        if source is NO_SOURCE or content is not NO_SOURCE:
            source = one_source(source, content)
        check_source(source, args)
        if producers != ():
            producers = check_producers(producers, source)
        options = (
            ping,
            ping_message_factory,
            send_timeout,
            commit_within,
            grace,
            max_lifetime,
            None if expires_at is None else seconds_since_1970("expires_at", expires_at),
            retry,
            farewell,
            on_error,
            on_close,
            sep,
            NO_LABELS if labels is None else labels,
            group,
            () if compress is None else compress,
        )
        # Nearly every response has the defaults. They are checked once, and all of them share one object, which is 4 us
        # of a short stream. Compared by identity: False is no 0.0, and nobody's __eq__ is called.
        self._options = DEFAULTS if all(map(is_, options, DEFAULT_VALUES)) else StreamOptions(*options)
        channel_options = ChannelOptions(max_buffer_size, max_buffer_bytes, overflow, conflate, errors)
        if not all(map(is_, channel_options, CHANNEL_DEFAULTS)):
            channel_options.check(source)
        if status_code != 200 or type(status_code) is not int:
            check_status_code(status_code)
        if background is not None:
            check_background(background)
        self._source = source
        # The channel is opened when the response is served: a response that never is leaves no channel unclosed.
        self._unopened: Unopened | None = (source, args, producers, channel_options)
        self._is_served = False
        self.status_code = status_code
        self.background = background
        self._raw_headers: list[tuple[bytes, bytes]] | None = None
        if headers is not None:
            check_headers(headers)
            defaults = {name.decode(): value.decode() for name, value in self._default_headers()[:-1]}
            self.init_headers({**defaults, **{name.lower(): value for name, value in headers.items()}})

    def __repr__(self) -> str:
        source = innermost(self._source)
        name = getattr(source, "__qualname__", type(source).__name__)
        return f"<{type(self).__name__} of {name}: {'served' if self._is_served else 'not served yet'}>"

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers, as Starlette keeps them. Made when they are read: few programs do, and streams live long."""
        if self._raw_headers is None:
            self._raw_headers = [*self._default_headers()]  # as init_headers() makes them
        return self._raw_headers

    @raw_headers.setter
    def raw_headers(self, raw_headers: list[tuple[bytes, bytes]]) -> None:
        self._raw_headers = raw_headers

    def _default_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return COMPRESSED_RAW_HEADERS if self._options.compress else RAW_HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream: the ASGI application."""
        if self._is_served:
            msg = "an EventSourceResponse serves one request; make a new one for each"
            raise RuntimeError(msg)
        if isinstance(self._source, Subscription):
            source_of(self._source).check_unused()
        self._is_served = True
        group, place = self._options.group, None
        if scope.get("method") == "HEAD":
            await self._answer_head(scope, send)
        else:
            if group is not None and group_state_of(group).limits is not None:
                place = await self._enter(group, scope)
            try:
                await self._serve(scope, receive, send)
            finally:
                if place is not None:
                    place.leave()
        if self.background is not None:
            await self.background()

    async def _enter(self, group: StreamGroup, scope: Scope) -> Place | None:
        # A refused stream costs no objects. There is no checkpoint between the place and the stream that takes it.
        try:
            return run_of(group).enter(partial(_request_of, scope))
        except BaseException:
            await self._close_unserved()
            raise

    async def _close_unserved(self) -> None:
        if isinstance(self._source, (EventReceiveChannel, Subscription)):
            self._source.close()
        await close_source(self._source)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        head, coding = self._new_head(scope)
        assert self._unopened is not None  # it is served once
        end, producers = open_source(*self._unopened)
        self._unopened = None
        source = state_of(end) if isinstance(end, EventReceiveChannel) else end
        coder = None if coding is None else self._coder(coding, end)
        try:
            stream = Stream(self._options, source, end, scope, receive, send, head, coder)
            del head  # not kept for the life of the stream
            reason = await stream.serve(producers)
            if reason is CloseReason.DISCONNECTED and not stream.has_answered():
                await self._answer_middleware(scope, receive, send)
        except Exception as exc:
            add_hints(exc)
            raise
        finally:
            end.close()
            if producers:  # none has run, so none has closed the source
                await close_source(self._source)

    def _new_head(self, scope: Scope) -> tuple[Message, Coding | None]:
        headers = [*self._default_headers()] if self._raw_headers is None else self._raw_headers
        head, compress = new_head(scope, self.status_code, headers), self._options.compress
        return head, negotiate(scope, head, compress) if compress else None

    def _coder(self, coding: Coding, end: EventReceiveChannel | ChannelState | LiveSource) -> Coder:
        if coding in SHARED_CODINGS and isinstance(end, LiveSource) and end.is_shared(self._options.sep):
            return new_shared_coder(coding)
        return ConnectionCoder(coding)

    async def _answer_middleware(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The client has disconnected and reads none of this, but middlewares wait for a response. A GZipMiddleware
        # keeps the head until there is a body.
        if count_base_middlewares(receive):
            with suppress(*CLIENT_GONE):
                await send(self._new_head(scope)[0])
                await send({"type": "http.response.body", "body": b"", "more_body": True})

    async def _answer_head(self, scope: Scope, send: Send) -> None:
        reason = CloseReason.FAILED
        try:
            await send(self._new_head(scope)[0])
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            reason = CloseReason.COMPLETED
        except CLIENT_GONE:
            reason = CloseReason.DISCONNECTED
        except get_cancelled_exc_class():
            reason = CloseReason.CANCELLED
            raise
        finally:
            try:
                await self._close_unserved()
            finally:
                await self._options.call_on_close(reason)


def _defaults_of(names: Iterable[str]) -> tuple[Any, ...]:
    # As the signature has them, and nowhere else.
    defaults = {**(EventSourceResponse.__init__.__kwdefaults__ or {}), "labels": NO_LABELS, "compress": ()}
    return tuple([defaults[name] for name in names])


DEFAULT_VALUES = _defaults_of(StreamOptions.__slots__)
DEFAULTS = StreamOptions(*DEFAULT_VALUES)
CHANNEL_DEFAULTS = _defaults_of(ChannelOptions._fields)


def _request_of(scope: Scope) -> Request:
    # A response to a WebSocket (ASGI's denial response) answers its handshake, which is a GET request.
    return Request(scope if scope["type"] == "http" else {**scope, "type": "http", "method": "GET"})
