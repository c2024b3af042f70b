# publish_endpoint(): a route by which programs in other languages publish to a hub.
#
# Rule 1: without `authorize` every request is refused, and only True lets a request through. It is called before the
#         body is read.
# Rule 2: the route is for programs. A page of another site that makes a browser post here is refused, because the
#         browser would send the user's cookies (Fetch standard, "CORS protocol and credentials").
# Rule 3: every refusal is an HTTPException, so the application's own handlers make the answer.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketClose

from .._arguments.checks import check_any_function, check_count, check_function
from .._errors import StoreUnavailableError
from .._hubs.hub import Hub, publisher_of_hub
from .._requests.authorize import Authorize, check_allowed, check_same_origin
from ..stores._items import pack_items
from .body import FORM, JSON, Body, parse_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ..stores._protocol import EventId

__all__ = ("publish_endpoint",)

AuthorizeTopic: TypeAlias = Callable[[Request, str], bool | Awaitable[bool]]

REFUSES_EVERYONE = (
    "Forbidden: publish_endpoint() refuses everyone without authorize=. Give it a function of the request."
)
_LONGEST_KEY = 200  # characters
_RETRY_AFTER = "5"  # seconds
_KEYS_OF = "publish_endpoint:"  # so that no key that a client sends is one of another publisher's


def publish_endpoint(
    hub: Hub | Callable[[Request], Hub],
    *,
    authorize: Authorize | None = None,
    authorize_topic: AuthorizeTopic | None = None,
    max_bytes: int = 1_048_576,
) -> ASGIApp:
    """Return an endpoint that publishes what is posted to it.

    ::

        def authorize(request):
            return secrets.compare_digest(request.headers.get("authorization", ""), f"Bearer {TOKEN}")

        Route("/publish", publish_endpoint(lambda request: request.state.hub, authorize=authorize))

    A POST has one event, ``{"topic": "news", "data": "hello"}``, or a list of events, which are published as
    neighbours, all or none of them. Fields: ``topic``; ``data``, a string, or anything else to be sent as JSON;
    ``event``, ``retry`` and ``ttl``, the seconds after which the event expires, if you like. Or it has the same as a
    form, ``topic=news&data=hello``. The answer is ``{"id": "..."}``, or ``{"ids": [...]}`` for a list. With the header
    ``Idempotency-Key``, the same request can be sent again safely.

    Args:
        hub: the hub; or a function that takes the request and returns the hub, for a hub that is opened later, in the
            lifespan.
        authorize: called for each request before its body is read. Only ``True`` grants access; anything else is a
            403. It may be async; a plain function must not block. Without it, every request is refused.
        authorize_topic: takes the request and a topic that it wants to publish to; ``True`` allows it. Called for each
            topic. By default who may publish may publish to every topic.
        max_bytes: of the body; more is a 413.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """
    if not isinstance(hub, Hub):
        check_function("hub", hub, "a Hub, or a function of the request that returns one")
    if authorize is not None:
        check_any_function("authorize", authorize, "a function of the request, or None to refuse everyone")
    if authorize_topic is not None:
        check_any_function("authorize_topic", authorize_topic, "a function of the request and a topic, or None")
    check_count("max_bytes", max_bytes)
    return _PublishEndpoint(hub, authorize, authorize_topic, max_bytes)


class _PublishEndpoint:
    def __init__(
        self,
        hub: Hub | Callable[[Request], Hub],
        authorize: Authorize | None,
        authorize_topic: AuthorizeTopic | None,
        max_bytes: int,
    ) -> None:
        self._hub = hub
        self._authorize = authorize
        self._authorize_topic = authorize_topic
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        with suppress(ClientDisconnect):  # the client has left in the middle of its request, and waits for no answer
            answer = await self._answer(Request(scope, receive))
            await answer(scope, receive, send)

    async def _answer(self, request: Request) -> JSONResponse:
        await self._check(request)
        key = _key_of(request)
        body = await self._read(request)
        await self._check_topics(request, body)
        ids = [str(id_) for id_ in await self._publish(request, body, key)]
        return JSONResponse({"ids": ids} if body.is_list else {"id": ids[0]})

    async def _check(self, request: Request) -> None:
        if request.method != "POST":
            raise HTTPException(405, headers={"allow": "POST"})
        check_same_origin(
            request, default="same-origin", why="this route is for programs, not for pages of other sites"
        )
        if self._authorize is None:
            raise HTTPException(403, REFUSES_EVERYONE)
        await check_allowed(self._authorize(request))

    async def _read(self, request: Request) -> Body:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in {JSON, FORM}:
            raise HTTPException(415, f"the body must be {JSON} or {FORM}")
        try:
            return parse_body(media_type, await self._read_bytes(request))
        except ValueError as exc:
            raise HTTPException(400, str(exc)) from None

    async def _read_bytes(self, request: Request) -> bytes:
        body = bytearray()
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > self._max_bytes:
                    raise HTTPException(413, f"the body must have {self._max_bytes} bytes at most")
        return bytes(body)

    async def _check_topics(self, request: Request, body: Body) -> None:
        if self._authorize_topic is not None:
            for topic in dict.fromkeys([topic for topic, _ in body.events]):
                await check_allowed(self._authorize_topic(request, topic), "you may not publish to this topic")

    async def _publish(self, request: Request, body: Body, key: tuple[str, int] | None) -> list[EventId]:
        publisher = publisher_of_hub(self._hub if isinstance(self._hub, Hub) else self._hub(request))
        try:
            return await publisher.publish(publisher.expiring_each(pack_items(body.events), body.ttls), key)
        except StoreUnavailableError:
            why = "the store is not available; send it again with the same Idempotency-Key"
            raise HTTPException(503, why, {"retry-after": _RETRY_AFTER}) from None
        except (ValueError, TypeError) as exc:
            raise HTTPException(400, str(exc)) from None


def _key_of(request: Request) -> tuple[str, int] | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= _LONGEST_KEY:
        raise HTTPException(400, f"Idempotency-Key must have from 1 to {_LONGEST_KEY} characters")
    return f"{_KEYS_OF}{key}", 0
