"""The options of a response: what is refused when the response is made, and with which words."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sse_trio import EventSendChannel, EventSourceResponse, ServerSentEvent, StreamGroup


async def produce(send_channel: EventSendChannel) -> None:
    """Is never called."""
    raise NotImplementedError


@pytest.mark.parametrize("name", ["ping", "send_timeout", "commit_within", "max_lifetime", "grace"])
@pytest.mark.parametrize(
    ("seconds", "error"),
    [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), (True, TypeError), (object(), TypeError)],
)
def test_what_is_no_time(name: str, seconds: Any, error: type[Exception]) -> None:
    """A time is a number of seconds, not negative; the error names the option."""
    with pytest.raises(error, match=f"^{name}"):
        EventSourceResponse(produce, **{name: seconds})


@pytest.mark.parametrize("name", ["send_timeout", "max_lifetime"])
def test_time_that_may_not_be_zero(name: str) -> None:
    """Timeouts of writes and lifetimes can't be zero."""
    with pytest.raises(ValueError, match=f"^{name} must be a positive number of seconds, or None for no limit; got 0"):
        EventSourceResponse(produce, **{name: 0})


@pytest.mark.parametrize("status_code", [204, 205, 304, 101, 199, 600, 0, -200])
def test_status_without_a_body(status_code: int) -> None:
    """A status without a body is refused, because no stream can be sent with it."""
    instead = rf"; without a body write Response\(status_code={status_code}\)" if status_code in (204, 205, 304) else ""
    with pytest.raises(ValueError, match=rf"^status_code must be .* with a body; got {status_code}{instead}$"):
        EventSourceResponse(produce, status_code=status_code)


@pytest.mark.parametrize("status_code", ["200", None, 200.0, True])
def test_what_is_no_status(status_code: Any) -> None:
    """A status must be a number."""
    with pytest.raises(TypeError, match="^status_code must be an int"):
        EventSourceResponse(produce, status_code=status_code)


@pytest.mark.parametrize("grace", [None, math.inf])
def test_grace_without_an_end(grace: Any) -> None:
    """A grace must be finite."""
    with pytest.raises(ValueError, match="that never ends would hold the server"):
        EventSourceResponse(produce, grace=grace)


@pytest.mark.parametrize(
    "options",
    [
        {"ping": None, "send_timeout": None, "commit_within": None, "max_lifetime": None},
        {"ping": 0, "commit_within": 0, "grace": 0},
        {"ping": 0.5, "send_timeout": 1, "commit_within": math.inf, "max_lifetime": math.inf, "grace": 3},
        {"farewell": ServerSentEvent("bye"), "retry": 0, "sep": "\r\n"},
        {"farewell": lambda reason: None, "on_error": lambda exc: None, "on_close": produce},
        {"group": StreamGroup(), "labels": {"user": "1"}, "ping_message_factory": ServerSentEvent},
    ],
)
def test_what_makes_sense(options: dict[str, Any]) -> None:
    """Valid options are accepted."""
    EventSourceResponse(produce, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"retry": -1}, ValueError, "retry must be 0 or more milliseconds"),
        ({"retry": 1.5}, TypeError, "retry must be an int of milliseconds"),
        ({"sep": "\n\n"}, ValueError, "sep must be .* a line end"),
        ({"farewell": "bye"}, TypeError, "farewell must be a ServerSentEvent"),
        ({"ping_message_factory": ServerSentEvent("ping")}, TypeError, "^ping_message_factory must be a function"),
        ({"on_error": "error"}, TypeError, "^on_error must be a function"),
        ({"on_close": 1}, TypeError, "^on_close must be a function"),
        ({"group": "group"}, TypeError, "group must be a StreamGroup, or None for the default one; got 'group'"),
        ({"max_buffer_size": -1}, ValueError, "max_buffer_size"),
        ({"max_buffer_bytes": 0}, ValueError, "max_buffer_bytes"),
    ],
)
def test_what_makes_no_sense(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """Invalid options raise when the response is made."""
    with pytest.raises(error, match=message):
        EventSourceResponse(produce, **options)
