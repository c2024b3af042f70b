# EventSource: connects, decodes, returns events, and connects again. What client.py opens.
#
# Rule 1: no task runs in the background. Everything happens in whoever iterates, so cancelling that stops everything,
#         and a consumer that is slow slows the server down instead of filling memory. The one exception is asked for: a
#         receive() with a timeout has its step done by a task that outlives the timeout, and is ended by _close().
# Rule 2: at most one response is open. Whatever ends it (its end, an error, idleness, restart(), close(), being
#         cancelled), its connection is closed before anything else is done.
# Rule 3: events that were received are returned before anything else happens, so nothing is asked for twice.
# Rule 4: what an answer means and how long to wait is client/_reconnect.py's business, HTTP is client/_request.py's,
#         bodies are client/_body.py's and client/_answer.py's, and the bytes are _wire/decoder.py's.

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Callable, Container, Coroutine, Iterable
from dataclasses import dataclass
from typing import NoReturn

import anyio
import httpx
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from .._errors import EventSourceError, EventTooLargeError, SSEError
from .._loops.current import current_loop
from .._loops.loop import check_here
from .._wire.decoder import EventDecoder
from .._wire.received import ReceivedEvent
from ._answer import is_accepted, is_final_for_proxy, read_answer, refuse_unread
from ._arguments import check_seconds
from ._body import OpenStream, close, why_undecodable
from ._interruptible import Interruptible
from ._lasting import LastingStep
from ._network_errors import explain, is_certificate_error
from ._reconnect import Backoff, Verdict, judge, retry_after_seconds
from ._request import StreamRequest

__all__ = ("ConnectionState", "EventSource", "EventSourceOptions")

_logger = logging.getLogger("sse_trio.client")


class ConnectionState(enum.Enum):
    """The state of an event source: the ``readyState`` of WHATWG HTML 9.2.2."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSourceOptions:
    """How an event source goes about it: the arguments of open_event_source() of the same names."""

    reconnect: bool
    idle_timeout: float | None
    head_timeout: float | None
    max_event_size: int
    skip_too_large: bool
    take_unfinished: bool
    max_answer_size: int
    accept: Callable[[httpx.Response], bool] | None
    retry_statuses: Container[int]
    on_state_change: Callable[[EventSource], object] | None

    @property
    def seconds_to_answer(self) -> float | None:
        """How long an answer may take: silence before the head is silence, too."""
        return min((t for t in (self.idle_timeout, self.head_timeout) if t is not None), default=None)


class EventSource:
    """A stream of :class:`ReceivedEvent` that connects again when it breaks. Made by :func:`open_event_source`.

    Iterating gives the events. The iteration ends when the server says that there is no more (204), when the response
    ends and reconnecting is off, and after :meth:`close`.
    """

    def __init__(
        self, request: StreamRequest, backoff: Backoff, last_event_id: str, options: EventSourceOptions
    ) -> None:
        self._request = request
        self._backoff = backoff
        self._options = options
        self._guard = anyio.ResourceGuard("reading from")
        self._state = ConnectionState.CONNECTING
        self._response: httpx.Response | None = None
        self._stream: OpenStream | None = None
        self._events: deque[ReceivedEvent] = deque()
        self._received_id = self._returned_id = last_event_id
        self._error: Exception | None = None
        self._failure: Exception | None = None
        self._attempt = 1
        self._was_refreshed = False
        self._connect_at = 0.0
        self._waits = Interruptible()
        self._lasting = LastingStep()
        # Events that were too large, and those of them in this connection.
        self._skipped = self._skipped_here = 0
        self._loop = current_loop()

    @property
    def state(self) -> ConnectionState:
        """CONNECTING until there is a stream and after it broke, OPEN while there is one, and CLOSED for ever after."""
        return self._state

    @property
    def response(self) -> httpx.Response | None:
        """The latest response, for its status, headers and final URL; ``None`` before the first."""
        return self._response

    @property
    def last_event_id(self) -> str:
        """The id to go on from, as of the event that was returned last. What to keep for another day."""
        return self._returned_id if self._events else self._received_id

    @property
    def retry(self) -> float:
        """The reconnection time, in seconds: the one that the server set last, or the one given."""
        return self._backoff.retry

    @property
    def attempt(self) -> int:
        """The number of the connection that there is, or that is next; from 1."""
        return self._attempt

    @property
    def error(self) -> Exception | None:
        """Why the connection before ended or never was; ``None`` if the server ended it, and before the first."""
        return self._error

    @property
    def connect_at(self) -> float:
        """When the next connection is or the current one was made, on the clock of ``anyio.current_time()``."""
        return self._connect_at

    @property
    def skipped(self) -> int:
        """How many events were skipped because they were larger than ``max_event_size``."""
        return self._skipped

    def restart(self) -> None:
        """Drop the connection and connect again at once; nothing if closed. From any task of the event loop."""
        self._check_here()
        self._waits.interrupt()

    def close(self) -> None:
        """End the iteration, in whichever task it is; no event comes after this. From any task of the event loop.

        No checkpoint. The connection is closed by the task that iterates, or by leaving the ``async with`` block.
        """
        self._check_here()
        self._events.clear()
        self._failure = None
        self._waits.interrupt()
        self._enter(ConnectionState.CLOSED)

    def _check_here(self) -> None:
        if self._waits.is_waiting:
            check_here(self._loop, "this event source")

    def __aiter__(self) -> EventSource:
        return self

    async def __anext__(self) -> ReceivedEvent:
        """Wait for the next event and return it.

        A cancellation point always, and a schedule point where it waits for the network, which is once for each chunk
        of bytes. Cancellation: no event is lost. While it waits for the network, the connection is closed; the next
        call then connects again, or raises :exc:`EventSourceError` if reconnecting is off.

        Raises:
            StopAsyncIteration: there are no more events.
            EventSourceError: what the server answered is final and no event stream, or the stream broke and
                reconnecting is off.
            EventTooLargeError: the server sent an event larger than ``max_event_size``.
            BusyResourceError: another task is waiting for the next event.
        """
        await checkpoint_if_cancelled()
        return await self._next_event(is_lasting=False)

    async def receive(self, *, timeout: float | None = None) -> ReceivedEvent:  # noqa: ASYNC109 -- it ends no connection
        """Wait for the next event and return it; for at most ``timeout`` seconds if that is given.

        A timeout ends this call and nothing else: the connection stays open, and the next call goes on waiting. (A
        ``move_on_after()`` around the iteration closes the connection.) In between, a task of the source waits for
        the network; leaving the source's block ends it.

        A cancellation point always, and a schedule point where it waits. Cancellation: no event is lost. With a
        ``timeout``, the connection stays open then as well.

        Raises:
            TimeoutError: no event came in time.
            EndOfStream: there are no more events.
            TypeError: ``timeout`` is no number.
            ValueError: it is negative, or not finite.
            EventSourceError: as for an iteration, as all the others are.
        """
        check_seconds("timeout", timeout, zero=True, none="waits for ever")
        await checkpoint_if_cancelled()
        try:
            with anyio.fail_after(timeout):
                return await self._next_event(is_lasting=timeout is not None)
        except StopAsyncIteration:
            raise anyio.EndOfStream from None

    async def _next_event(self, *, is_lasting: bool) -> ReceivedEvent:
        while not self._events:
            if self._state is ConnectionState.CLOSED and not self._lasting.is_pending:
                await self._finish()
            await self._step(is_lasting=is_lasting)
        event = self._events.popleft()
        self._returned_id = event.id
        return event

    # Only the iterating task, or open_event_source() before there is one, runs what follows.

    async def _open(self) -> None:
        """Connect as often as it takes until there is a stream, or a reason why there won't be one."""
        self._enter(ConnectionState.CONNECTING)
        while self._state is ConnectionState.CONNECTING:
            await self._step(is_lasting=False)
        if self._failure is not None:
            await self._finish()

    async def _step(self, *, is_lasting: bool) -> None:
        """Do the next thing that takes time, here or in a task that goes on if this one is cancelled."""
        with self._guard:
            if is_lasting and not self._lasting.is_pending:
                self._lasting.start(self._advance)
            if self._lasting.is_pending:
                await self._lasting.wait()
            else:
                await self._advance()

    async def _advance(self) -> None:
        """Do the next thing that takes time: wait, connect or read."""
        if self._waits.is_interrupted:
            self._waits.clear()
            await self._drop()
            await self._request.http2.retire()
            self._connect_again(anyio.current_time())
        elif self._stream is not None:
            await self._read(self._stream)
        elif anyio.current_time() < self._connect_at:
            with self._waits.scope():
                await anyio.sleep_until(self._connect_at)
        else:
            await self._connect()

    async def _finish(self) -> NoReturn:
        await self._drop()
        failure, self._failure = self._failure, None
        await checkpoint()
        raise failure or StopAsyncIteration

    async def _connect(self) -> None:
        try:
            response = await self._send()
        except httpx.HTTPError as exc:
            await self._lose(exc, is_final=self._is_hopeless(exc))
            return
        if response is None:
            await self._lose_unless_interrupted("no answer came", self._options.seconds_to_answer)
        else:
            self._response = response
            await self._accept(response)

    async def _send(self) -> httpx.Response | None:
        """Ask for the stream; None if that was interrupted, or took longer than it may."""
        headers: httpx.Headers | None = None
        with self._waits.scope():  # fetching a token may take its time
            headers = await self._request.headers.ask()
        if headers is not None:
            with self._waits.scope(self._options.seconds_to_answer):
                return await self._request.send(self._received_id, headers)
        return None

    async def _accept(self, response: httpx.Response) -> None:
        options, headers = self._options, response.headers
        verdict = judge(response.status_code, headers.get("content-type", ""), options.retry_statuses)
        if verdict not in (Verdict.OPEN, Verdict.STOP) and await is_accepted(options.accept, response):
            verdict = Verdict.OPEN
        if verdict is Verdict.OPEN and (fault := why_undecodable(response)):
            await refuse_unread(response)
            reason = f"answered with a stream {fault}"
            await self._lose(EventSourceError(self._request.description, reason, response), is_final=True)
        elif verdict is Verdict.OPEN:
            self._stream = OpenStream(response, self._new_decoder())
            self._was_refreshed = False
            self._backoff.opened(anyio.current_time())
            self._enter(ConnectionState.OPEN)
        elif verdict is Verdict.STOP:
            await close(response)
            self._error = None
            self._enter(ConnectionState.CLOSED)
        else:
            is_whole = await read_answer(response, options.max_answer_size)
            error = EventSourceError(self._request.description, _refusal(response), response, is_truncated=not is_whole)
            retry_after = retry_after_seconds(headers.get("retry-after", ""), headers.get("date", ""))
            await self._lose(error, is_final=verdict is Verdict.FAIL, retry_after=retry_after)

    async def _read(self, stream: OpenStream) -> None:
        events: list[ReceivedEvent] = []
        try:
            with self._waits.scope(self._options.idle_timeout) as scope:
                events = await stream.receive()
        except anyio.EndOfStream:
            if self._options.take_unfinished:
                self._take(stream.decoder.flush(), stream.decoder)
            await self._lose(None)
        except anyio.ClosedResourceError as exc:
            await self._lose(exc)
        except httpx.HTTPError as exc:
            await self._lose(exc, is_final=self._is_hopeless(exc))
        except EventTooLargeError as exc:
            self._take(exc.events, stream.decoder)
            await self._lose(exc, is_final=True)
        else:
            if scope.cancelled_caught:
                await self._lose_unless_interrupted("no byte came", self._options.idle_timeout)
            else:
                self._backoff.received(events=False)
                self._take(events, stream.decoder)

    def _take(self, events: Iterable[ReceivedEvent], decoder: EventDecoder) -> None:
        if self._state is ConnectionState.CLOSED:
            return
        self._events.extend(events)
        self._received_id = decoder.last_event_id
        self._note_skipped(decoder)
        if decoder.retry is not None:
            self._backoff.ask(decoder.retry)
        if self._events:
            self._backoff.received(events=True)

    async def _lose(self, error: Exception | None, *, is_final: bool = False, retry_after: float = 0.0) -> None:
        """The stream ended, or there was none: connect again, or never."""
        await self._drop()
        if self._state is ConnectionState.CLOSED:
            return
        if isinstance(error, httpx.HTTPError):
            explain(error)
        self._error = error
        wait = self._next_wait(error, retry_after, is_final=is_final)
        if wait is not None:
            reason = "ended" if error is None else repr(error)
            _logger.log(
                logging.INFO if error is None else logging.WARNING,
                "%s: %s; connecting again in %.1f s",
                self._request.description,
                reason,
                wait,
            )
            self._connect_again(anyio.current_time() + wait)
        else:
            self._failure = error and self._as_failure(error)
            self._enter(ConnectionState.CLOSED)

    def _next_wait(self, error: Exception | None, retry_after: float, *, is_final: bool) -> float | None:
        """Return the seconds until the next connection; None if there won't be one."""
        if self._may_refresh(error):
            self._was_refreshed = True
            return 0.0
        if self._options.reconnect and not is_final:
            return self._backoff.next_wait(retry_after)
        return None

    def _may_refresh(self, error: Exception | None) -> bool:
        """Whether to ask for headers again, at once: once for each 401, as a token that is new is refused for good."""
        is_unauthorized = isinstance(error, EventSourceError) and error.is_unauthorized
        return is_unauthorized and self._request.headers.can_refresh and not self._was_refreshed

    async def _lose_unless_interrupted(self, what: str, seconds: float | None) -> None:
        if not self._waits.is_interrupted:
            await self._request.http2.retire()
            await self._lose(TimeoutError(f"{what} for {seconds:g} s"))

    def _new_decoder(self) -> EventDecoder:
        self._skipped_here = 0
        return EventDecoder(
            max_event_size=self._options.max_event_size,
            last_event_id=self._received_id,
            skip_too_large=self._options.skip_too_large,
        )

    def _note_skipped(self, decoder: EventDecoder) -> None:
        skipped, self._skipped_here = decoder.skipped - self._skipped_here, decoder.skipped
        if skipped:
            self._skipped += skipped
            _logger.warning(
                "%s: skipped %d events of more than %d bytes",
                self._request.description,
                skipped,
                self._options.max_event_size,
            )

    def _as_failure(self, error: Exception) -> Exception:
        if isinstance(error, SSEError):
            return error
        failure = EventSourceError(self._request.description, f"failed: {error!r}")
        failure.__cause__ = error
        return failure

    def _is_hopeless(self, error: httpx.HTTPError) -> bool:
        """Whether trying again is futile: no error of the network, but of what was asked for."""
        if isinstance(error, httpx.LocalProtocolError):
            # Else it worked before, and it is HTTP/2 being closed, or a connection that has no room.
            return self._response is None and not self._request.http2.is_retired
        return (
            not isinstance(error, httpx.TransportError)
            or isinstance(error, httpx.UnsupportedProtocol)
            or is_final_for_proxy(error, self._options.retry_statuses)
            or is_certificate_error(error)
        )

    def _connect_again(self, at: float) -> None:
        self._attempt += 1
        self._connect_at = at
        self._enter(ConnectionState.CONNECTING)

    def _enter(self, state: ConnectionState) -> None:
        if self._state is not ConnectionState.CLOSED:
            self._state = state
            if self._options.on_state_change is not None:
                _refuse_coroutine(self._options.on_state_change(self))

    async def _close(self) -> None:
        try:
            self.close()
        finally:  # whatever on_state_change raises
            await self._lasting.aclose()
            if not self._waits.is_waiting:  # else some other task still iterates, and closes the connection itself
                await self._drop()

    async def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._backoff.ended(anyio.current_time())
            await stream.aclose()


def _refuse_coroutine(result: object) -> None:
    """Raise for the coroutine of an async function behind a plain one, as in a lambda. Nothing would run it."""
    if isinstance(result, Coroutine):
        result.close()
        raise TypeError("on_state_change must be a plain function, as nothing awaits it; it has returned a coroutine")


def _refusal(response: httpx.Response) -> str:
    content_type = response.headers.get("content-type", "")
    if response.status_code == 200:
        return f"answered with content-type {content_type!r}, which is no text/event-stream"
    return f"answered {response.status_code} {response.reason_phrase}"
