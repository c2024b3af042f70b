# The exceptions that are this library's own; their constructors own the wording.
#
# Rule 1: what happens to a channel is anyio's to name (BrokenResourceError, ClosedResourceError,
#         EndOfStream, WouldBlock). Nothing here re-invents those.
# Rule 2: bad arguments are ValueError and TypeError. Nothing here re-invents those either.
# Rule 3: every exception here derives from SSEError, so that one `except` can catch all of them. SSEError itself, and
#         what the decoder raises, are in _wire/errors.py, since nothing in there imports from above it.

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
    """A client did not take a write in time, and there was no way to abort its connection.

    In time is within ``send_timeout``, and where the stream ended for another reason, within the second that its last
    writes have then. ``seconds`` is how long the write had been under way. Raised out of the response, so that the
    server drops the connection. The client's fault, or its network's.
    """

    def __init__(self, seconds: float, reason: str = "send_timeout") -> None:
        super().__init__(
            f"the stream ended ({reason}) with a write under way that the client had not taken for {seconds:.3g} s; "
            "behind ServerBridge, sse_trio.EventSourceResponse has such a connection aborted without this error"
        )
        self.seconds = seconds


class EventSourceError(SSEError):
    """An event source gave up: no event stream where one was asked for, or none any more.

    ``response`` is what the server answered, with its body as far as ``max_answer_size`` and 5 seconds allow; ``None``
    if there was no answer, or if a stream that was there broke. ``is_truncated`` says that the body goes on.
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
        """Whether the server answered 401: it wants credentials, or others than it got."""
        return self.response is not None and self.response.status_code == 401


class StoreUnavailableError(SSEError, ConnectionError):
    """What a store is made on (a file, a server) can't be reached or used now. Nobody's fault in this process.

    From opening a store: nothing has happened. From ``append``: the outcome is unknown, and a retry is safe with
    the same ``key`` only. The cause, where there is one, is the ``__cause__``.
    """

    def __init__(self, store: str, why: object) -> None:
        super().__init__(f"{store} is not available: {why}")
        self.store = store
        self.why = why


class InvalidEventError(SSEError, ValueError):
    """A received event has a declared name, and data that is not of the type declared for it.

    The server's fault, or it has another version of the declaration. ``event`` is what was received; ``__cause__`` is
    the error of pydantic or msgspec. The message says which field is wrong.
    """

    def __init__(self, event: ReceivedEvent, type_name: str, reason: str) -> None:
        reason = " ".join(reason.split())  # names of fields may come from the network, and a log has lines
        super().__init__(
            f"the data of event {event.event!r} is not of type {type_name}: {reason}; the server sent something else "
            "than was declared here, or has another version of it"
        )
        self.event = event


class UnknownEventError(SSEError, LookupError):
    """A received event has a name that is not declared. Nobody's fault, as long as servers are newer than clients.

    ``event`` is what was received.
    """

    def __init__(self, event: ReceivedEvent, names: Sequence[str]) -> None:
        super().__init__(
            f"{event.event!r} is no declared event (they are {', '.join(map(repr, names))}); declare it, or skip what "
            "a newer server may send: `if event.event in events`"
        )
        self.event = event


class StreamRefusedError(SSEError, HTTPException):
    """A stream is one more than its :class:`StreamGroup` lets in. Nobody's fault in this process.

    Raised out of the response, with nothing sent and no producer started. An ``HTTPException``, which Starlette and
    FastAPI answer: 429 (RFC 6585) for ``max_streams_per``, else 503, with ``Retry-After`` (RFC 9110, section 10.2.3).
    """

    def __init__(self, reason: RefusalReason, retry_after: int) -> None:
        of_client = reason is RefusalReason.MAX_STREAMS_PER
        super().__init__(
            429 if of_client else 503,
            "too many event streams of yours are open" if of_client else "too many event streams; come back later",
            {"retry-after": str(retry_after)},
        )
        self.reason = reason
        """Which limit that was."""
        self.retry_after = retry_after
        """Seconds after which the client is to try again; random, so that not all do at once."""
