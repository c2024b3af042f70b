# How long an event source waits before it connects again. No I/O, no clock, no httpx.
#
# Rule 1: the server's reconnection time is the shortest wait, and so is its Retry-After. After a healthy connection the
#         wait is at most a fifth longer. Only failed connections in a row make it grow.
# Rule 2: a connection is healthy if it gave an event, or if it lasted and gave any byte: a quiet stream that sends
#         pings is not broken. It failed if it was short, or gave nothing at all.
# Rule 3: every wait has bounds, whatever the server says. The client never floods the server, and never waits longer
#         than hours.

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

__all__ = ("LEAST_WAIT", "RETRY_STATUSES", "Backoff", "retry_after_seconds")

RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""What a server, or a proxy in front of it, answers while it is overloaded, out of order or being replaced; 520 to 524
are Cloudflare's. The others are not here because the same request would get the same answer: 501, and every 4xx except
too early (425), too late (408) and too many (429)."""

LEAST_WAIT = 0.1
"""The least seconds between two connections. A server that says ``retry: 0`` gets ten connections a second, not 700."""

# This spreads clients that lost the same server at the same moment, and WPT's format-field-retry.any.js still takes
# it for the time that the server asked for.
_SPREAD = 1.2
# The longest wait that a server can ask for, in seconds, by `retry` or Retry-After: 6 hours, as in urllib3.
_LONGEST_ASKED = 21_600.0
# A connection that ends sooner (seconds) failed, unless it gave an event: a crashing server makes such connections.
_SHORT = 10.0
# 2**10 times a reconnection time is above any sensible max_retry, and floats stay finite.
_MAX_EXPONENT = 10


class Backoff:
    """The waits between connections: exponential with full jitter above the reconnection time.

    Args:
        retry: the reconnection time until the server sets one, in seconds.
        max_retry: the longest wait that backing off makes, in seconds. A longer reconnection time still counts.
        uniform: returns a random number between two bounds.
    """

    __slots__ = ("_failures", "_gave_bytes", "_max_retry", "_opened_at", "_uniform", "retry")

    def __init__(
        self, retry: float, max_retry: float, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self.retry: float = retry
        """The reconnection time, in seconds."""
        self._max_retry = max_retry
        self._uniform = uniform
        self._failures = 0
        self._opened_at = 0.0
        self._gave_bytes = False

    def opened(self, now: float) -> None:
        """Note that there is a stream."""
        self._opened_at, self._gave_bytes = now, False

    def ended(self, now: float) -> None:
        """Note that the stream ended, broke or was dropped."""
        if self._gave_bytes and now - self._opened_at >= _SHORT:
            self._failures = 0

    def received(self, *, events: bool) -> None:
        """Note that bytes of the stream came, and maybe events."""
        self._gave_bytes = True
        if events:
            self._failures = 0

    def ask(self, milliseconds: int) -> None:
        """Take the reconnection time that the server asks for, up to 6 hours."""
        self.retry = min(milliseconds / 1000, _LONGEST_ASKED)

    def next_wait(self, retry_after: float = 0.0) -> float:
        """Return the seconds to wait before the next connection, given what the server's Retry-After said."""
        exponent, self._failures = self._failures, min(self._failures + 1, _MAX_EXPONENT)
        return self._at_least(min(retry_after, _LONGEST_ASKED), self._usual_wait(exponent))

    def _usual_wait(self, exponent: int) -> float:
        least = max(self.retry, LEAST_WAIT)
        backed_off = min(least * 2**exponent, self._max_retry) if exponent else 0.0
        return self._uniform(least, max(least * _SPREAD, backed_off))

    def _at_least(self, floor: float, wait: float) -> float:
        """Return ``wait``, or a little more than ``floor``, so that clients don't all come back in the same second."""
        return wait if wait >= floor else self._uniform(floor, floor * _SPREAD)


def retry_after_seconds(value: str, date: str = "") -> float:
    """Return the seconds that a Retry-After asks for (RFC 9110, 10.2.3); 0 if it is absent, past or malformed.

    Args:
        value: the header's value: seconds, or an HTTP date.
        date: the value of the answer's Date header. A date counts from it, because the clocks may differ.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        until = _http_date(value)
    except ValueError:
        return 0.0
    try:
        now = _http_date(date)
    except ValueError:
        now = datetime.now(timezone.utc)
    return max(0.0, (until - now).total_seconds())


def _http_date(value: str) -> datetime:
    try:
        date = parsedate_to_datetime(value)
    except OverflowError as exc:
        raise ValueError(f"{value!r} has a time zone that is out of range") from exc
    # The asctime form has no zone and is in UTC (RFC 9110, 5.6.7).
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
