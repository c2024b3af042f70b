"""expires_at: a stream ends at the moment that was named, such as that at which its client's token expires."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import anyio
import pytest

from sse_trio import CloseReason, EventSendChannel, EventSourceResponse, ServerSentEvent
from sse_trio.testing import open_test_stream

from ..e2e._servers import patience

pytestmark = pytest.mark.anyio


async def wait(send_channel: EventSendChannel) -> None:
    """Send an event, and wait for ever."""
    await send_channel.send("event")
    await anyio.sleep_forever()


async def length_of(response: EventSourceResponse) -> float:
    """Return how long a stream lasts that ends by itself, as its lifetime does."""
    began = anyio.current_time()
    async with open_test_stream(response) as stream:
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.LIFETIME
    return anyio.current_time() - began


def in_100_seconds(kind: str) -> Any:
    at = time.time() + 100
    zone = timezone(timedelta(hours=-7))
    return {"seconds": at, "datetime": datetime.fromtimestamp(at, zone), "int": math.ceil(at)}[kind]


@pytest.mark.parametrize("kind", ["seconds", "datetime", "int"])
async def test_it_is_exact(kind: str) -> None:
    """A stream ends at the moment named, in seconds since 1970 or as an aware datetime, within a tenth of a second."""
    late = 1.0 if kind == "int" else 0.0  # it was rounded up
    assert 99.9 <= await length_of(EventSourceResponse(wait, expires_at=in_100_seconds(kind))) <= 100.1 + late


@pytest.mark.usefixtures("real_clock")
async def test_it_is_exact_by_the_clock_of_the_machine() -> None:
    """By the real clock, the farewell comes within a tenth of a second of the moment, and never before it."""
    at = time.time() + 0.3
    response = EventSourceResponse(wait, expires_at=at, farewell=ServerSentEvent("bye"))
    async with open_test_stream(response) as stream:
        assert [(await stream.receive()).data, (await stream.receive()).data] == ["event", "bye"]
        assert -0.002 <= time.time() - at < 0.1 * patience()
        await stream.wait_closed()


@pytest.mark.parametrize(("max_lifetime", "least", "most"), [(10, 8, 10), (1000, 99, 101)])
async def test_the_earlier_of_two_moments_counts(max_lifetime: float, least: float, most: float) -> None:
    """With max_lifetime as well, the stream ends at whichever comes first."""
    response = EventSourceResponse(wait, expires_at=in_100_seconds("seconds"), max_lifetime=max_lifetime)
    assert least <= await length_of(response) <= most


@pytest.mark.parametrize("at", [0, -1.5, datetime(2001, 1, 1, tzinfo=timezone.utc)])
async def test_a_moment_that_has_passed(at: float) -> None:
    """If the moment has passed, the stream ends at once."""
    assert await length_of(EventSourceResponse(wait, expires_at=at)) < 0.1


@pytest.mark.parametrize(
    ("at", "error"),
    [
        ("2026-01-01", TypeError),
        (True, TypeError),
        (datetime(2030, 1, 1), ValueError),  # noqa: DTZ001 -- the mistake
        (math.nan, ValueError),
        (math.inf, ValueError),
        (10**400, ValueError),
    ],
)
async def test_what_is_no_moment(at: Any, error: type[Exception]) -> None:
    """A text, a datetime without a time zone and what is not finite are errors of the line that makes the response."""
    with pytest.raises(error, match="expires_at must be an aware datetime"):
        EventSourceResponse(wait, expires_at=at)
