"""The reconnection policy: waits, Retry-After, and what an answer means."""

from __future__ import annotations

import random

import pytest

from sse_trio.client._reconnect import RETRY_STATUSES, Backoff, retry_after_seconds
from sse_trio.client._verdicts import Verdict, judge


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
    """You decide which statuses are temporary; 200 and 204 keep their meaning."""
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


def fail(backoff, count):
    waits(backoff, count)
    return backoff


def test_backoff_is_exponential_with_full_jitter():
    """The first wait is the reconnection time, and each further one up to twice as long, until max_retry."""
    assert waits(Backoff(3.0, 60.0, lowest), 8) == [3.0] * 8
    assert waits(Backoff(3.0, 60.0, highest), 8) == pytest.approx([3.6, 6, 12, 24, 48, 60, 60, 60])


def test_backoff_is_random():
    """Clients that lost the same server together don't come back together."""
    backoff = Backoff(1.0, 60.0, random.Random(0).uniform)
    seen = [wait for _ in range(100) for wait in waits(backoff, 3) if backoff.received(events=True) is None]
    assert len(set(seen)) == 300
    assert min(seen) >= 1.0
    assert max(seen) <= 4.0


def test_backoff_starts_again_after_an_event():
    """An event resets the wait to the reconnection time; other bytes don't."""
    backoff = fail(Backoff(3.0, 60.0, highest), 3)
    backoff.received(events=False)
    assert waits(backoff, 1) == [24]
    backoff.received(events=True)
    assert waits(backoff, 2) == pytest.approx([3.6, 6])


@pytest.mark.parametrize(
    ("seconds", "gives_bytes", "is_healthy"),
    [(900, True, True), (10, True, True), (9.9, True, False), (900, False, False)],
)
def test_a_quiet_connection_is_healthy(seconds, gives_bytes, is_healthy):
    """A connection that lasted and gave any byte ends the back-off; one that was short, or gave nothing, failed."""
    backoff = fail(Backoff(3.0, 60.0, highest), 3)
    backoff.opened(100.0)
    if gives_bytes:
        backoff.received(events=False)
    backoff.ended(100.0 + seconds)
    assert waits(backoff, 2) == pytest.approx([3.6, 6] if is_healthy else [24, 48])


def test_bytes_count_for_their_own_connection():
    """A connection that gave nothing isn't healthy because an earlier one was."""
    backoff = fail(Backoff(3.0, 60.0, highest), 2)
    backoff.opened(0)
    backoff.received(events=False)
    backoff.ended(1)
    backoff.opened(1)
    backoff.ended(1000)
    assert waits(backoff, 1) == [12]


def test_the_servers_reconnection_time_is_followed():
    """The server's reconnection time counts from the next wait, even above max_retry, with jitter, up to 6 hours."""
    backoff = Backoff(3.0, 60.0, highest)
    backoff.ask(500)
    assert waits(backoff, 3) == pytest.approx([0.6, 1, 2])
    backoff.ask(300_000)
    assert waits(backoff, 3) == pytest.approx([360] * 3)
    assert waits(Backoff(300, 60.0, lowest), 3) == [300] * 3
    backoff.ask(10**18 - 1)
    assert waits(backoff, 2) == pytest.approx([21_600 * 1.2] * 2)


def test_a_herd_that_was_told_the_same_time_is_spread():
    """200 clients with the same `retry` above max_retry don't come back in the same second."""
    waits_of_all = [Backoff(250.0, 60.0, random.Random(n).uniform).next_wait() for n in range(200)]
    assert len({round(wait) for wait in waits_of_all}) > 40


def test_a_reconnection_time_of_zero():
    """A reconnection time of zero is a tenth of a second, and doesn't disable the back-off."""
    assert waits(Backoff(0.0, 60.0, highest), 4) == pytest.approx([0.12, 0.2, 0.4, 0.8])
    backoff = Backoff(0.0, 0.0, lowest)
    for _ in range(3):
        backoff.ask(0)
        backoff.received(events=True)
        assert backoff.next_wait() == 0.1


def test_backoff_for_ever():
    """However many connections fail, the wait is a finite number."""
    backoff = Backoff(1e-300, 1e300, highest)
    assert max(waits(backoff, 5000)) <= 1e300
    assert max(waits(Backoff(1.0, float("inf"), highest), 5000)) == 1024


def test_retry_after_is_a_floor():
    """Retry-After makes a wait longer and never shorter, with jitter, up to 6 hours, and counts as a failure."""
    for retry_after in (0.0, 1.0):
        assert Backoff(3.0, 60.0, lowest).next_wait(retry_after) == 3
        assert fail(Backoff(3.0, 60.0, highest), 3).next_wait(retry_after) == 24
    assert Backoff(3.0, 60.0, lowest).next_wait(120.0) == 120
    backoff = Backoff(3.0, 60.0, highest)
    assert backoff.next_wait(120.0) == pytest.approx(144)
    assert backoff.next_wait(1e9) == pytest.approx(21_600 * 1.2)
    assert backoff.next_wait() == 12


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
        *((garbage, 0) for garbage in ("", "-1", "1.5", "soon", "\u0661", "Sun, 99 Nov 1994 08:50:07 GMT")),
        ("Sun, 06 Nov 1994 08:50:07 +" + "9" * 20, 0),
    ],
)
def test_retry_after_seconds(value, seconds):
    """Seconds and all three forms of an HTTP date are read, a date against the server's clock; the rest is no wait."""
    assert retry_after_seconds(value, NOW) == seconds


def test_retry_after_date_without_a_clock_of_the_servers():
    """Without a Date header, a date in Retry-After is compared with our own clock."""
    assert retry_after_seconds(NOW, "") == 0
    assert retry_after_seconds("Fri, 31 Dec 9999 23:59:59 GMT", "garbage") > 1e9
