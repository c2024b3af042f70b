# The exceptions that are this library's own; their constructors own the wording.
#
# Rule 1: what happens to a channel is anyio's to name (BrokenResourceError, ClosedResourceError,
#         EndOfStream, WouldBlock). Nothing here re-invents those.
# Rule 2: bad arguments are ValueError and TypeError. Nothing here re-invents those either.
# Rule 3: every exception here derives from SSEError, so that one `except` can catch all of them.

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from ._decoder import ReceivedEvent

__all__ = ("EventSourceError", "EventTooLargeError", "SSEError", "SendTimeoutError", "StoreUnavailableError")


class SSEError(Exception):
    """The base of every exception that is ``sse_trio``'s own."""


class SendTimeoutError(SSEError, TimeoutError):
    """A client took nothing for ``send_timeout`` seconds, and there was no way to abort its connection.

    Raised out of the response, so that the server drops the connection. The client's fault, or its network's.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the client took nothing for {seconds:g} s, so the stream was ended; behind ServerBridge, "
            "sse_trio.EventSourceResponse has such a connection aborted without this error"
        )
        self.seconds = seconds


class EventTooLargeError(SSEError):
    """An event of a stream is larger than the decoder's ``max_event_size``. The server's fault, or the limit's.

    ``events`` are the events that ended before it in the same bytes and that nothing else has returned.
    """

    def __init__(self, max_event_size: int, events: Sequence[ReceivedEvent] = ()) -> None:
        super().__init__(
            f"the stream holds an event of more than {max_event_size} bytes; if such events are expected, "
            "decode with a larger max_event_size"
        )
        self.max_event_size = max_event_size
        self.events: tuple[ReceivedEvent, ...] = tuple(events)


class EventSourceError(SSEError):
    """An event source gave up: no event stream where one was asked for, or none any more.

    ``response`` is what the server answered, its body read as far as 64 KiB; ``None`` if there was no answer, or if a
    stream that was there broke. ``__cause__`` is the HTTP client's own error, if that was the reason.
    """

    def __init__(self, url: str, reason: str, response: httpx.Response | None = None) -> None:
        super().__init__(f"{url} {reason}")
        self.response = response


class StoreUnavailableError(SSEError, ConnectionError):
    """What a store is made on (a file, a server) can't be reached or used now. Nobody's fault in this process.

    From opening a store: nothing has happened. From ``append``: the outcome is unknown, and a retry is safe with
    the same ``key`` only. The cause, where there is one, is the ``__cause__``.
    """

    def __init__(self, store: str, why: object) -> None:
        super().__init__(f"{store} is not available: {why}")
        self.store = store
        self.why = why
