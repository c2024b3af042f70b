# The options of a response, checked when it is made, so that a mistake is an error at the line that makes it.

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ._event import ServerSentEvent, check_sep
from ._group import StreamGroup
from ._reason import CloseReason

__all__ = ("Farewell", "StreamOptions")

Farewell: TypeAlias = ServerSentEvent | Callable[[CloseReason], ServerSentEvent | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """What EventSourceResponse was told about the stream; the meaning of each is documented there."""

    ping: float | None
    ping_message_factory: Callable[[], ServerSentEvent] | None
    send_timeout: float | None
    commit_within: float | None
    grace: float
    max_lifetime: float | None
    retry: int | None
    farewell: Farewell | None
    on_error: Callable[[Exception], ServerSentEvent | None] | None
    on_close: Callable[[CloseReason], Awaitable[object]] | None
    sep: str
    labels: Mapping[str, str]
    group: StreamGroup | None

    def __post_init__(self) -> None:
        for name in ("send_timeout", "max_lifetime"):
            _check_seconds(name, getattr(self, name), zero=False)
        for name in ("ping", "commit_within"):
            _check_seconds(name, getattr(self, name), zero=True)
        if self.grace is None or math.isinf(self.grace):
            msg = f"grace={self.grace} must be a number of seconds; a producer that never ends would hold the server"
            raise ValueError(msg)
        _check_seconds("grace", self.grace, zero=True)
        check_sep(self.sep)
        ServerSentEvent(retry=self.retry)  # it has the rules and the words
        _check_event("farewell", self.farewell)
        for name in ("ping_message_factory", "on_error", "on_close"):
            _check_callable(name, getattr(self, name))
        if not isinstance(self.group, StreamGroup | None):
            msg = f"group must be a StreamGroup, not {type(self.group).__name__}"
            raise TypeError(msg)


def _check_seconds(name: str, value: object, *, zero: bool) -> None:
    if value is None:
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        msg = f"{name} must be a number of seconds or None, not {value!r}"
        raise TypeError(msg)
    if not (value > 0 or (zero and value == 0)):
        least = "0 or more" if zero else "more than 0"
        msg = f"{name}={value} must be {least} seconds, or None for none"
        raise ValueError(msg)


def _check_callable(name: str, value: object) -> None:
    if value is not None and not callable(value):
        msg = f"{name} must be a function, not {value!r}; give the function itself, not its result"
        raise TypeError(msg)


def _check_event(name: str, value: object) -> None:
    if not isinstance(value, ServerSentEvent | None) and not callable(value):
        msg = f"{name} must be a ServerSentEvent, or a function that returns one, not {value!r}"
        raise TypeError(msg)
