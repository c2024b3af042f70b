# The options of a response, checked when it is made, so that a mistake is an error at the line that makes it.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from anyio import move_on_after

from ._arguments import check_farewell, check_function, check_grace, check_seconds
from ._codings import Coding, check_codings
from ._event import ServerSentEvent, check_sep
from ._group import StreamGroup
from ._reason import CloseReason

__all__ = ("Farewell", "StreamOptions")

CLOSE_SECONDS = 5.0
"""How long `on_close` may take."""

Farewell: TypeAlias = ServerSentEvent | Callable[[CloseReason], ServerSentEvent | None]


@dataclass(slots=True, kw_only=True, eq=False)
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
    compress: Sequence[Coding]

    def __post_init__(self) -> None:  # noqa: C901 -- a list of checks
        # Run for every response, and hardly ever with anything but defaults: those are told by identity first.
        if self.ping is not None:
            check_seconds("ping", self.ping, zero=True)
        if self.send_timeout is not None:
            check_seconds("send_timeout", self.send_timeout, zero=False)
        if self.commit_within is not None:
            check_seconds("commit_within", self.commit_within, zero=True)
        if self.max_lifetime is not None:
            check_seconds("max_lifetime", self.max_lifetime, zero=False)
        if self.grace != 0.0:
            check_grace("grace", self.grace)
        if self.sep != "\n":
            check_sep(self.sep)
        if self.retry is not None:
            ServerSentEvent(retry=self.retry)  # it has the rules and the words
        if self.farewell is not None:
            check_farewell(self.farewell)
        for name in ("ping_message_factory", "on_error", "on_close"):
            if getattr(self, name) is not None:
                check_function(name, getattr(self, name))
        if self.compress != ():
            check_codings(self.compress)
        if self.group is not None and not isinstance(cast("object", self.group), StreamGroup):
            msg = f"group must be a StreamGroup, not {type(self.group).__name__}"
            raise TypeError(msg)

    async def call_on_close(self, reason: CloseReason) -> None:
        """Await ``on_close`` if there is one: shielded, and bounded."""
        if self.on_close is not None:
            with move_on_after(CLOSE_SECONDS, shield=True):
                await self.on_close(reason)
