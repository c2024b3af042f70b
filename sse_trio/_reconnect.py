# When an event source connects again, and after how long. No I/O, no clock, no httpx.
#
# Rule 1: what an answer means is decided in judge() and nowhere else (WHATWG HTML 9.2.3, "fetch").
# Rule 2: the reconnection time that the server asked for is the least wait: never less, and after a connection that
#         gave events at most a fifth more. Only connections in a row without any event are backed off from.
# Rule 3: no wait is without bound, whatever the server says.

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Container
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

__all__ = ("RETRY_STATUSES", "Backoff", "Verdict", "judge", "retry_after_seconds")

RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""What a server, or a proxy in front of it, answers while it is overloaded, out of order or being replaced; 520 to 524
are Cloudflare's. Not among them is what the same request would be answered again: 501, and 4xx but for too early, too
late (408) and too many."""

# Backing off from a reconnection time of 0 has to start somewhere.
_LEAST_BACKOFF = 0.1
# Enough to spread clients that lost the same server at the same moment, and within what WPT's
# format-field-retry.any.js takes for the time that was asked for.
_SPREAD = 1.2
# The longest that a Retry-After is followed, in seconds: 6 hours, as in urllib3.
_MAX_RETRY_AFTER = 21_600.0
# 2**10 times a reconnection time is past any max_retry that makes sense, and floats stay finite.
_MAX_EXPONENT = 10


class Verdict(enum.Enum):
    """What an answer means for the connection."""

    OPEN = enum.auto()
    """It is an event stream."""
    STOP = enum.auto()
    """The server says that there is no more (204)."""
    RETRY = enum.auto()
    """Not now; try again."""
    FAIL = enum.auto()
    """Not an event stream, and trying again wouldn't make it one."""


def judge(status: int, content_type: str, retry_statuses: Container[int]) -> Verdict:
    """Return what an answer means, redirects having been followed."""
    if status == 200 and content_type.partition(";")[0].strip().lower() == "text/event-stream":
        return Verdict.OPEN
    if status == 204:
        return Verdict.STOP
    return Verdict.RETRY if status in retry_statuses else Verdict.FAIL


class Backoff:
    """The waits between connections: exponential with full jitter above the reconnection time.

    Args:
        retry: the reconnection time until the server sets one, in seconds.
        max_retry: the longest wait, in seconds, whatever reconnection time the server sets.
        uniform: a random number between two bounds.
    """

    __slots__ = ("_eventless", "_max_retry", "_uniform", "retry")

    def __init__(
        self, retry: float, max_retry: float, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self.retry: float = retry
        """The reconnection time, in seconds."""
        self._max_retry = max_retry
        self._uniform = uniform
        self._eventless = 0

    def reset(self) -> None:
        """An event came: the server works."""
        self._eventless = 0

    def next_wait(self, retry_after: float | None = None) -> float:
        """Return the seconds to wait before the next connection, given what the server's Retry-After said."""
        least = min(self.retry, self._max_retry)
        exponent, self._eventless = self._eventless, min(self._eventless + 1, _MAX_EXPONENT)
        if retry_after is not None:
            return min(retry_after, _MAX_RETRY_AFTER)
        if exponent == 0:
            return self._uniform(least, min(least * _SPREAD, self._max_retry))
        return self._uniform(least, min(max(least, _LEAST_BACKOFF) * 2**exponent, self._max_retry))


def retry_after_seconds(value: str, date: str = "") -> float | None:
    """Return the seconds that a Retry-After asks for (RFC 9110, 10.2.3); None if it is absent or garbage.

    Args:
        value: the header's value: seconds, or an HTTP date.
        date: the value of the answer's Date header, against which a date is taken, as the clocks may differ.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        until = _http_date(value)
    except ValueError:
        return None
    try:
        now = _http_date(date)
    except ValueError:
        now = datetime.now(timezone.utc)
    return max(0.0, (until - now).total_seconds())


def _http_date(value: str) -> datetime:
    try:
        date = parsedate_to_datetime(value)
    except OverflowError as exc:
        raise ValueError(f"{value!r} has a zone that is out of this world") from exc
    # The asctime form has no zone and is in UTC (RFC 9110, 5.6.7).
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
