# What an answer or an error means: whether it is a stream, whether to try again, and what to raise if not.
#
# Rule 1: what the status and the type of an answer mean is decided in judge() and nowhere else (WHATWG HTML 9.2.3,
#         "fetch").
# Rule 2: an error is final if trying again can't change it: the request is at fault, or a certificate, or a proxy that
#         refuses us. An error of the network is not final.

from __future__ import annotations

import enum
from collections.abc import Container

import httpx

from .._errors import EventSourceError, SSEError
from ._answer import is_final_for_proxy
from ._network_errors import is_certificate_error

__all__ = ("Verdict", "as_failure", "is_final", "judge", "refusal_of")


class Verdict(enum.Enum):
    """What an answer means for the connection."""

    OPEN = enum.auto()
    """The answer is an event stream."""
    STOP = enum.auto()
    """The server says that there are no more events (204)."""
    RETRY = enum.auto()
    """Not now; try again."""
    FAIL = enum.auto()
    """Not an event stream, and trying again wouldn't make it one."""


def judge(status: int, content_type: str, retry_statuses: Container[int]) -> Verdict:
    """Return what an answer means, after redirects have been followed."""
    if status == 200 and content_type.partition(";")[0].strip().lower() == "text/event-stream":
        return Verdict.OPEN
    if status == 204:
        return Verdict.STOP
    return Verdict.RETRY if status in retry_statuses else Verdict.FAIL


def is_final(error: httpx.HTTPError, retry_statuses: Container[int], *, has_worked: bool) -> bool:
    """Whether trying again is futile. ``has_worked`` says that the same request has had an answer before."""
    if isinstance(error, httpx.LocalProtocolError):
        # After it has worked, this is an HTTP/2 connection that is closing or has no room.
        return not has_worked
    return (
        not isinstance(error, httpx.TransportError)
        or isinstance(error, httpx.UnsupportedProtocol)
        or is_final_for_proxy(error, retry_statuses)
        or is_certificate_error(error)
    )


def refusal_of(response: httpx.Response) -> str:
    """Return in words why an answer is not an event stream."""
    content_type = response.headers.get("content-type", "")
    if response.status_code == 200:
        return f"answered with content-type {content_type!r}, which is not text/event-stream"
    return f"answered {response.status_code} {response.reason_phrase}"


def as_failure(error: Exception, description: str) -> Exception:
    """Return what the iteration raises for an error that is final."""
    if isinstance(error, SSEError):
        return error
    failure = EventSourceError(description, f"failed: {error!r}")
    failure.__cause__ = error
    return failure
