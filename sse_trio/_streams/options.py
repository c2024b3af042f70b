# StreamOptions: the options of a response, checked when it is made, so that a mistake fails at the line that makes it.
# Those of the channel (overflow, buffer, errors) are checked in sources.py, status and headers in _arguments/http.py.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, cast

from anyio import move_on_after

from .._arguments.checks import (
    LEAST_INTERVAL,
    check_coroutine_function,
    check_function,
    check_grace,
    check_interval,
    check_labels,
    check_seconds,
    wrong,
)
from .._compression.codings import Coding, check_codings
from .._groups.group import StreamGroup
from .._groups.run import Farewell
from .._reasons import CloseReason
from .._wire.event import ServerSentEvent, check_sep
from .._wire.returned import check_farewell

__all__ = ("NO_LABELS", "StreamOptions")

CLOSE_SECONDS = 5.0
"""How many seconds `on_close` may take."""

NO_LABELS: Mapping[str, str] = MappingProxyType({})


class _Check(Protocol):
    def __call__(self, name: str, value: object, *, zero: bool, none: str) -> None: ...


@dataclass(slots=True, eq=False)
class StreamOptions:
    """The options of one stream, which never change. EventSourceResponse documents them, and has their order."""

    ping: float | None
    ping_message_factory: Callable[[], ServerSentEvent] | None
    send_timeout: float | None
    commit_within: float | None
    grace: float
    max_lifetime: float | None
    expires_at: float | None
    retry: int | None
    farewell: Farewell | None
    on_error: Callable[[Exception], ServerSentEvent | None] | None
    on_close: Callable[[CloseReason], Awaitable[object]] | None
    sep: str
    labels: Mapping[str, str]
    group: StreamGroup | None
    compress: Sequence[Coding]

    def __post_init__(self) -> None:
        # Most options are defaults: skip those by a cheap comparison first.
        self._check_times()
        self._check_functions()
        if self.sep != "\n":
            check_sep(self.sep)
        if self.retry is not None:
            ServerSentEvent(retry=self.retry)  # it checks the value
        if self.labels is not NO_LABELS:
            check_labels(self.labels)
        if self.compress != ():
            check_codings(self.compress)
        if self.group is not None and not isinstance(cast("object", self.group), StreamGroup):
            raise wrong(TypeError, "group", "a StreamGroup, or None for the default one", self.group)

    def _check_times(self) -> None:
        # A float that is large enough is right for each of them.
        if type(ping := self.ping) is not float or not ping >= LEAST_INTERVAL:
            _check_unless_none(check_interval, "ping", ping, zero=True, none=", or None to disable pings")
        if type(timeout := self.send_timeout) is not float or not timeout >= LEAST_INTERVAL:
            _check_unless_none(check_interval, "send_timeout", timeout, zero=False, none=", or None for no limit")
        if type(within := self.commit_within) is not float or not within >= 0.0:
            _check_unless_none(check_seconds, "commit_within", within, zero=True, none=", or None to wait for an event")
        if self.max_lifetime is not None:
            check_seconds("max_lifetime", self.max_lifetime, zero=False, none=", or None for no limit")
        if self.grace != 0.0 or self.grace is False:
            check_grace("grace", self.grace)

    def _check_functions(self) -> None:
        if self.farewell is not None:
            check_farewell(self.farewell)
        if self.ping_message_factory is not None:
            check_function("ping_message_factory", self.ping_message_factory)
        if self.on_error is not None:
            check_function("on_error", self.on_error)
        if self.on_close is not None:
            check_coroutine_function("on_close", self.on_close)

    async def call_on_close(self, reason: CloseReason) -> None:
        """Await ``on_close`` if there is one, shielded, for at most CLOSE_SECONDS."""
        if self.on_close is not None:
            with move_on_after(CLOSE_SECONDS, shield=True):
                await self.on_close(reason)


def _check_unless_none(check: _Check, name: str, value: object, *, zero: bool, none: str) -> None:
    if value is not None:
        check(name, value, zero=zero, none=none)
