# StreamRefusedError: a stream that its group did not let in, as an answer to its client.
#
# Rule 1: it is an HTTPException, so whoever answers those for the application answers this one too, in its own form;
#         and an exception handler of its own may answer a browser otherwise (docs/limits.md).
# Rule 2: the client learns that there are too many streams and when to come again, and no more.

from __future__ import annotations

from starlette.exceptions import HTTPException

from ._errors import SSEError
from ._reasons import RefusalReason

__all__ = ("StreamRefusedError",)


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
