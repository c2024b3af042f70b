# The library's own exceptions. Their constructors make the messages.
#
# Rule 1: channels raise anyio's exceptions (BrokenResourceError, ClosedResourceError, EndOfStream, WouldBlock).
# Rule 2: bad arguments raise ValueError and TypeError.
# Rule 3: every exception here derives from SSEError, so that one `except` can catch all of them. SSEError and the
#         decoder's EventTooLargeError are defined in _wire/errors.py, because _wire imports nothing from above it.

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from ._reasons import RefusalReason
from ._wire.errors import EventTooLargeError, SSEError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from ._wire.received import ReceivedEvent

__all__ = (
    "EventSourceError",
    "EventTooLargeError",
    "InvalidEventError",
    "SSEError",
    "SendTimeoutError",
    "StoreUnavailableError",
    "StreamRefusedError",
    "UnknownEventError",
)


class SendTimeoutError(SSEError, TimeoutError):
    """A client did not take a write in time, and its connection could not be aborted.

    The limit is ``send_timeout``; if the stream ends for another reason, it is one second for the last writes.
    ``seconds`` is how long the write had been under way. The response raises this so that the server drops the
    connection. The cause is the client or its network.
    """

    def __init__(self, seconds: float, reason: str = "send_timeout") -> None:
        super().__init__(
            f"the stream ended ({reason}) while the client had not taken a write for {seconds:.3g} s; wrap the "
            "application in ServerBridge, and sse_trio.EventSourceResponse aborts such connections without this error"
        )
        self.seconds = seconds


class EventSourceError(SSEError):
    """An event source gave up: the server did not answer with an event stream, or the stream broke.

    ``response`` is the server's answer, with as much of its body as ``max_answer_size`` and 5 seconds allow; ``None``
    if there was no answer, or if the stream had begun before it broke. ``is_truncated`` is true if the body is longer.
    ``__cause__`` is the HTTP client's own error, if that was the reason.
    """

    def __init__(
        self, url: str, reason: str, response: httpx.Response | None = None, *, is_truncated: bool = False
    ) -> None:
        super().__init__(f"{url} {reason}" + ("; the body in its response is cut short" if is_truncated else ""))
        self.response = response
        self.is_truncated = is_truncated

    @property
    def is_unauthorized(self) -> bool:
        """Whether the server answered 401: credentials are missing or wrong."""
        return self.response is not None and self.response.status_code == 401


class StoreUnavailableError(SSEError, ConnectionError):
    """A store's file or server can't be reached or used now. The cause is outside this process.

    When opening a store raises it, nothing has happened. When ``append`` raises it, the outcome is unknown, and a retry
    is safe only with the same ``key``. ``__cause__`` is the driver's error, if there is one.
    """

    def __init__(self, store: str, why: object) -> None:
        super().__init__(f"{store} is not available: {why}")
        self.store = store
        self.why = why


class InvalidEventError(SSEError, ValueError):
    """A received event has a declared name, but its data is not of the type declared for it.

    Either the server is wrong or it has another version of the declaration. ``event`` is the received event;
    ``__cause__`` is the error of pydantic or msgspec. The message names the field.
    """

    def __init__(self, event: ReceivedEvent, type_name: str, reason: str) -> None:
        reason = " ".join(reason.split())  # names of fields may come from the network: keep a log's one line
        super().__init__(
            f"the data of event {event.event!r} is not of type {type_name}: {reason}; the server sent something else "
            "than was declared here, or has another version of the declaration"
        )
        self.event = event


class UnknownEventError(SSEError, LookupError):
    """A received event has a name that is not declared. That is normal if servers are newer than clients.

    ``event`` is the received event.
    """

    def __init__(self, event: ReceivedEvent, names: Sequence[str]) -> None:
        super().__init__(
            f"{event.event!r} is not a declared event (declared: {', '.join(map(repr, names))}); declare it, or skip "
            "what a newer server may send: `if event.event in events`"
        )
        self.event = event


class StreamRefusedError(SSEError, HTTPException):
    """A :class:`StreamGroup` has reached a limit and refuses this stream.

    The response raises it before anything is sent and before a producer starts. It is an ``HTTPException``, so
    Starlette and FastAPI answer with 429 (RFC 6585) for ``max_streams_per`` and with 503 for other limits, and with
    ``Retry-After`` (RFC 9110, section 10.2.3).
    """

    def __init__(self, reason: RefusalReason, retry_after: int) -> None:
        of_client = reason is RefusalReason.MAX_STREAMS_PER
        super().__init__(
            429 if of_client else 503,
            "you have too many event streams open" if of_client else "too many event streams; come back later",
            {"retry-after": str(retry_after)},
        )
        self.reason = reason
        """The limit that was reached."""
        self.retry_after = retry_after
        """Seconds after which the client should try again; random, so that clients don't all return at once."""
