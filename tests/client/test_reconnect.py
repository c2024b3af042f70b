"""The reconnection policy: waits, Retry-After, and what an answer means."""

from __future__ import annotations

import random

import pytest

from sse_trio._reconnect import RETRY_STATUSES, Backoff, Verdict, judge, retry_after_seconds


@pytest.mark.parametrize(
    ("status", "content_type", "verdict"),
    [
        (200, "text/event-stream", Verdict.OPEN),
        (200, "Text/Event-Stream ; charset=x", Verdict.OPEN),
        (200, "text/html", Verdict.FAIL),
        (200, "", Verdict.FAIL),
        (204, "", Verdict.STOP),
        (204, "text/event-stream", Verdict.STOP),
        (201, "text/event-stream", Verdict.FAIL),
        (301, "", Verdict.FAIL),
        (404, "text/event-stream", Verdict.FAIL),
        *((status, "text/html", Verdict.RETRY) for status in (408, 425, 429, 500, 502, 503, 504, *range(520, 525))),
        *((status, "text/html", Verdict.FAIL) for status in (400, 401, 403, 407, 409, 410, 431, 501, 505, 511)),
    ],
)
def test_judge(status, content_type, verdict):
    """Only a 200 with text/event-stream is a stream, 204 is the end, overload is temporary, and the rest is final."""
    assert judge(status, content_type, RETRY_STATUSES) is verdict


def test_judge_with_other_retry_statuses():
    """Which statuses are temporary is the caller's to say; 200 and 204 mean what they mean all the same."""
    assert judge(503, "", ()) is Verdict.FAIL
    assert judge(500, "", {500, 204, 200}) is Verdict.RETRY
    assert judge(204, "", {500, 204, 200}) is Verdict.STOP
    assert judge(200, "text/event-stream", {200}) is Verdict.OPEN


def lowest(low, high):
    assert low <= high
    return low


def highest(low, high):
    assert low <= high
    return high


def waits(backoff, count):
    return [backoff.next_wait() for _ in range(count)]


def test_backoff_is_exponential_with_full_jitter():
    """The first wait is the reconnection time, and each further one up to twice as long, until max_retry."""
    assert waits(Backoff(3.0, 60.0, lowest), 8) == [3.0] * 8
    assert waits(Backoff(3.0, 60.0, highest), 8) == pytest.approx([3.6, 6, 12, 24, 48, 60, 60, 60])


def test_backoff_is_random():
    """Clients that lost the same server at the same moment don't come back at the same moment."""
    backoff = Backoff(1.0, 60.0, random.Random(0).uniform)
    seen = [wait for _ in range(100) for wait in waits(backoff, 3) if backoff.reset() is None]
    assert len(set(seen)) == 300
    assert min(seen) >= 1.0
    assert max(seen) <= 4.0


def test_backoff_starts_again_after_an_event():
    """reset() brings back the reconnection time itself."""
    backoff = Backoff(3.0, 60.0, highest)
    waits(backoff, 5)
    backoff.reset()
    assert waits(backoff, 2) == pytest.approx([3.6, 6])


def test_backoff_follows_the_servers_reconnection_time():
    """A reconnection time that the server set counts from the next wait on, up to max_retry."""
    backoff = Backoff(3.0, 60.0, highest)
    backoff.retry = 0.5
    assert waits(backoff, 3) == pytest.approx([0.6, 1, 2])
    backoff.retry = 1e15
    assert waits(backoff, 2) == [60, 60]


def test_a_reconnection_time_of_zero():
    """Zero is followed once, and is no reason to hammer a server that gives no events."""
    assert waits(Backoff(0.0, 60.0, highest), 4) == pytest.approx([0, 0.2, 0.4, 0.8])
    assert waits(Backoff(0.0, 0.0, highest), 3) == [0, 0, 0]


def test_backoff_for_ever():
    """However many connections fail, the wait is a finite number."""
    backoff = Backoff(1e-300, 1e300, highest)
    assert max(waits(backoff, 5000)) <= 1e300
    assert max(waits(Backoff(1.0, float("inf"), highest), 5000)) == 1024


def test_retry_after_wins():
    """Retry-After replaces the computed wait, is bounded by six hours, and counts as a failure like any other."""
    backoff = Backoff(3.0, 60.0, highest)
    assert backoff.next_wait(120.0) == 120
    assert backoff.next_wait(0.0) == 0
    assert backoff.next_wait(1e9) == 21_600
    assert backoff.next_wait() == 24


NOW = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("9" * 400, float("inf")),
        ("Sun, 06 Nov 1994 08:50:07 GMT", 30),
        ("Sunday, 06-Nov-94 08:50:07 GMT", 30),
        ("Sun Nov  6 08:50:07 1994", 30),
        ("Sun, 06 Nov 1994 08:49:07 GMT", 0),
        *((garbage, None) for garbage in ("", "-1", "1.5", "soon", "\u0661", "Sun, 99 Nov 1994 08:50:07 GMT")),
        ("Sun, 06 Nov 1994 08:50:07 +" + "9" * 20, None),
    ],
)
def test_retry_after_seconds(value, seconds):
    """Seconds and all three forms of an HTTP date are read, a date against the server's own clock."""
    assert retry_after_seconds(value, NOW) == seconds


def test_retry_after_date_without_a_clock_of_the_servers():
    """Without a Date header, a date is taken against our own clock."""
    assert retry_after_seconds(NOW, "") == 0
    assert retry_after_seconds("Fri, 31 Dec 9999 23:59:59 GMT", "garbage") > 1e9
