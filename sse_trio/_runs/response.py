# A run as a response: 404 for a key that is not known, 204 for a client that has seen the end, otherwise a stream.
#
# Rule 1: the status is known before anything is sent, also before the stream's group is asked for a place.
# Rule 2: from there on it is the stream of a subscription, and costs what that costs.

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, final

from starlette.responses import Response

from .._compression.codings import Coding
from .._groups.group import StreamGroup
from .._groups.run import Farewell
from .._hubs.subscription import Subscription
from .._reasons import CloseReason
from .._streams.response import EventSourceResponse
from .._wire.event import ServerSentEvent

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from starlette.background import BackgroundTask
    from starlette.types import Receive, Scope, Send

__all__ = ("RunResponse", "RunResponseOptions")


class RunResponseOptions(TypedDict, total=False):
    """The options of an :class:`EventSourceResponse` that make sense for a run, all of them optional."""

    headers: Mapping[str, str] | None
    background: BackgroundTask | None
    ping: float | None
    ping_message_factory: Callable[[], ServerSentEvent] | None
    send_timeout: float | None
    commit_within: float | None
    max_lifetime: float | None
    expires_at: datetime.datetime | float | None
    retry: int | None
    farewell: Farewell | None
    on_close: Callable[[CloseReason], Awaitable[object]] | None
    sep: str
    labels: Mapping[str, str] | None
    group: StreamGroup | None
    compress: Sequence[Coding] | None


@final
class RunResponse(EventSourceResponse):
    """The stream of a run. Made by ``Runs.response()``.

    Args:
        subscription: to the run's events.
        admit: returns the status to answer with instead, or what to hold open while the stream is.
        options: of the stream.
    """

    def __init__(
        self,
        subscription: Subscription,
        admit: Callable[[], Awaitable[int | AbstractContextManager[None]]],
        options: RunResponseOptions,
    ) -> None:
        super().__init__(subscription, **options)
        self._subscription = subscription
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request: the ASGI application."""
        admitted = await self._admit()
        if not isinstance(admitted, int):
            with admitted:
                await super().__call__(scope, receive, send)
            return
        self._subscription.close()
        answer = Response(status_code=admitted, headers={"cache-control": "no-store"}, background=self.background)
        await answer(scope, receive, send)
