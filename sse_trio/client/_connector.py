# Connector: makes the connections of an event source, one after another, and reads from them.
#
# Rule 1: at most one response is open. Whatever ends it (its end, an error, idleness, restart(), close(), a
#         cancellation), its connection is closed before anything else is done.
# Rule 2: one method is one step: connect() makes one attempt, read() waits for one piece of the body. Their outcome is
#         in the state and among the received events.
# Rule 3: every connection that ends passes through _lose(), which decides whether there is another and when.

from __future__ import annotations

import logging
from collections.abc import Iterable

import anyio
import httpx

from .._errors import EventSourceError, EventTooLargeError
from .._wire.decoder import EventDecoder
from .._wire.received import ReceivedEvent
from ._answer import is_accepted, read_answer, refuse_unread
from ._body import OpenStream, close, why_undecodable
from ._interruptible import Interruptible
from ._network_errors import explain
from ._options import EventSourceOptions
from ._received import ReceivedEvents
from ._reconnect import Backoff, retry_after_seconds
from ._request import StreamRequest
from ._state import ConnectionState, SourceState
from ._verdicts import Verdict, as_failure, is_final, judge, refusal_of

__all__ = ("Connector",)

_logger = logging.getLogger("sse_trio.client")


class Connector:
    """Connects, reads, and decides what follows when a connection ends.

    Args:
        request: what every connection asks for.
        backoff: how long to wait between them.
        options: those of the event source.
        state: what this changes.
        received: where the events go.
        waits: every wait for the network can be interrupted here.
    """

    def __init__(
        self,
        request: StreamRequest,
        backoff: Backoff,
        options: EventSourceOptions,
        state: SourceState,
        received: ReceivedEvents,
        waits: Interruptible,
    ) -> None:
        self._request = request
        self._backoff = backoff
        self._options = options
        self._state = state
        self._received = received
        self._waits = waits
        self._stream: OpenStream | None = None
        self._was_refreshed = False

    @property
    def has_stream(self) -> bool:
        """Whether there is something to read from."""
        return self._stream is not None

    async def connect(self) -> None:
        """Make one attempt to connect."""
        try:
            response = await self._send()
        except httpx.RequestError as exc:  # no HTTPStatusError: that is of the caller's functions
            await self._lose(exc, final=self._is_final(exc))
            return
        if response is None:
            await self._lose_unless_interrupted("no answer came", self._options.seconds_to_answer)
        else:
            self._state.response = response
            await self._take_answer(response)

    async def read(self) -> None:
        """Wait for bytes, and keep the events that end in them."""
        stream = self._stream
        assert stream is not None
        events: list[ReceivedEvent] = []
        try:
            with self._waits.scope(self._options.idle_timeout) as scope:
                events = await stream.receive()
        except anyio.EndOfStream:
            if self._options.take_unfinished:
                self._keep(stream.decoder.flush(), stream.decoder)
            await self._lose(None)
        except anyio.ClosedResourceError as exc:
            await self._lose(exc)
        except httpx.HTTPError as exc:
            await self._lose(exc, final=self._is_final(exc))
        except EventTooLargeError as exc:
            self._keep(exc.events, stream.decoder)
            await self._lose(exc, final=True)
        else:
            if scope.cancelled_caught:
                await self._lose_unless_interrupted("no byte came", self._options.idle_timeout)
            else:
                self._backoff.received(events=False)
                self._keep(events, stream.decoder)

    async def drop(self) -> None:
        """Close the connection, if there is one."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._backoff.ended(anyio.current_time())
            await stream.aclose()

    async def restart(self) -> None:
        """Close the connection, and have the next one made at once, over another HTTP/2 connection."""
        await self.drop()
        await self._request.http2.retire()
        self._state.connect_again(anyio.current_time())

    async def _send(self) -> httpx.Response | None:
        """Send the request; return None if that was interrupted, or took too long."""
        headers: httpx.Headers | None = None
        with self._waits.scope():  # fetching a token may take its time
            headers = await self._request.headers.ask()
        if headers is not None:
            with self._waits.scope(self._options.seconds_to_answer):
                return await self._request.send(self._received.received_id, headers)
        return None

    async def _take_answer(self, response: httpx.Response) -> None:
        options = self._options
        verdict = judge(response.status_code, response.headers.get("content-type", ""), options.retry_statuses)
        if verdict not in (Verdict.OPEN, Verdict.STOP) and await is_accepted(options.accept, response):
            verdict = Verdict.OPEN
        if verdict is Verdict.OPEN:
            await self._open(response)
        elif verdict is Verdict.STOP:
            await close(response)
            self._state.error = None
            self._state.enter(ConnectionState.CLOSED)
        else:
            await self._refuse(response, final=verdict is Verdict.FAIL)

    async def _open(self, response: httpx.Response) -> None:
        if fault := why_undecodable(response):
            await refuse_unread(response)
            reason = f"answered with a stream {fault}"
            await self._lose(EventSourceError(self._request.description, reason, response), final=True)
            return
        self._stream = OpenStream(response, self._received.new_decoder())
        self._was_refreshed = False
        self._backoff.opened(anyio.current_time())
        self._state.enter(ConnectionState.OPEN)

    async def _refuse(self, response: httpx.Response, *, final: bool) -> None:
        headers = response.headers
        is_whole = await read_answer(response, self._options.max_answer_size)
        error = EventSourceError(self._request.description, refusal_of(response), response, is_truncated=not is_whole)
        retry_after = retry_after_seconds(headers.get("retry-after", ""), headers.get("date", ""))
        await self._lose(error, final=final, retry_after=retry_after)

    def _keep(self, events: Iterable[ReceivedEvent], decoder: EventDecoder) -> None:
        if self._state.is_closed:
            return
        self._received.take(events, decoder)
        if decoder.retry is not None:
            self._backoff.ask(decoder.retry)
        if self._received.events:
            self._backoff.received(events=True)

    async def _lose(self, error: Exception | None, *, final: bool = False, retry_after: float = 0.0) -> None:
        """The stream ended, or there was none: connect again, or never."""
        await self.drop()
        if self._state.is_closed:
            return
        if isinstance(error, httpx.HTTPError):
            explain(error)
        self._state.error = error
        wait = self._next_wait(error, retry_after, final=final)
        if wait is None:
            self._state.close(error and as_failure(error, self._request.description))
        else:
            self._log_loss(error, wait)
            self._state.connect_again(anyio.current_time() + wait)

    async def _lose_unless_interrupted(self, what: str, seconds: float | None) -> None:
        if not self._waits.is_interrupted:
            await self._request.http2.retire()
            await self._lose(TimeoutError(f"{what} for {seconds:g} s"))

    def _log_loss(self, error: Exception | None, wait: float) -> None:
        _logger.log(
            logging.INFO if error is None else logging.WARNING,
            "%s: %s; connecting again in %.1f s",
            self._request.description,
            "ended" if error is None else repr(error),
            wait,
        )

    def _next_wait(self, error: Exception | None, retry_after: float, *, final: bool) -> float | None:
        """Return the seconds until the next connection; None if there won't be one."""
        if self._may_refresh(error):
            self._was_refreshed = True
            return 0.0
        if self._options.reconnect and not final:
            return self._backoff.next_wait(retry_after)
        return None

    def _may_refresh(self, error: Exception | None) -> bool:
        """Whether to fetch other headers at once: once for each 401, because a new token that is refused is final."""
        is_unauthorized = isinstance(error, EventSourceError) and error.is_unauthorized
        return is_unauthorized and self._request.headers.can_refresh and not self._was_refreshed

    def _is_final(self, error: httpx.HTTPError) -> bool:
        has_worked = self._state.response is not None or self._request.http2.is_retired
        return is_final(error, self._options.retry_statuses, has_worked=has_worked)
