# stream_inspector(): who may look on, and the routes of the page.
#
# Rule 1: nobody is let in, to nothing, until somebody has said who may. Each request is asked about, the page's own
#         files included.
# Rule 2: a kick changes something, so it has to come from the page. It carries a header that no other origin can send
#         without asking first (Fetch standard, "CORS-preflight request"), and nobody here answers that; and in it a
#         secret, which only who may read the stream can know. The stream itself is for no other origin either, whatever
#         the CORS middleware of the application lets others read.
# Rule 3: the page runs nothing that is not a file of it: its policy forbids inline scripts and styles, other origins,
#         and to be framed.
# Rule 4: its stream is one of the group's, with a label that says so. It ends with the others, and its page comes back
#         after its `max_lifetime`: who may no longer look on is shut out then. No limit of the group is for it: a group
#         that is full is what somebody wants to look into.

from __future__ import annotations

import platform
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketClose

from .._arguments import check_any_function, check_function, check_instance
from .._channel import EventSendChannel
from .._event import ServerSentEvent
from .._group import StreamGroup
from .._hub import Hub
from .._response import EventSourceResponse
from ._sampler import INTERVAL, LABELS, Sampler
from ._view import MAX_ROWS, SORTS, Selection, View, history_event

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ("Authorize", "stream_inspector")

Authorize: TypeAlias = Callable[[Request], bool | Awaitable[bool]]
"""Says whether the request is one of somebody who may."""
FindHub: TypeAlias = Callable[[Request], Hub | None]

STATIC = Path(__file__).parent / "static"
TOKEN_HEADER = "x-inspector-token"  # noqa: S105 -- the header's name
LIFETIME = 900.0
RETRY = 2000
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
)
REFUSES_EVERYONE = (
    "Forbidden: stream_inspector() refuses everyone until it is told who may look on. "
    "Give it authorize=, a function of the request."
)


def stream_inspector(
    group: StreamGroup,
    hub: Hub | FindHub | None = None,
    *,
    authorize: Authorize | None = None,
) -> Starlette:
    """Return an application with a page that shows the streams of a group, live, and can kick them.

    ::

        def authorize(request):
            return request.user.is_admin

        Mount("/streams", stream_inspector(group, hub=lambda request: request.state.hub, authorize=authorize))

    Args:
        group: whose streams are shown.
        hub: whose figures and topics are shown; or a function of the request that returns it, for one that is opened
            later, in the lifespan.
        authorize: called with each request, the page's files and its stream included; ``True`` lets it through,
            anything else is a 403. It may be async; one that is not must not block. It may raise Starlette's
            ``HTTPException``, to ask for a password, say. A kick is a POST: by that it can let some look on only.
            A stream is asked about when it is opened, and again within 15 minutes. Without it, everybody is refused.

    While no page is open, nothing is read.

    Raises:
        TypeError: an argument that makes no sense.
    """
    check_instance("group", group, StreamGroup, "a StreamGroup, whose streams are shown")
    if hub is not None and not isinstance(hub, Hub):
        check_function("hub", hub, "a Hub, a function of the request that returns one, or None")
    if authorize is not None:
        check_any_function("authorize", authorize, "a function of the request, or None to refuse everyone")
    inspector = _Inspector(group, hub)
    routes = [
        Route("/stream", inspector.stream),
        Route("/kick/{number:int}", inspector.kick, methods=["POST"]),
        Mount("/", _Files(directory=STATIC, html=True)),
    ]
    # Inside of the application, whose handlers make a response of an HTTPException.
    return Starlette(routes=[Mount("/", _Guard(Router(routes), authorize))])


class _Guard:
    """Asks whether a request may go on."""

    def __init__(self, app: ASGIApp, authorize: Authorize | None) -> None:
        self._app = app
        self._authorize = authorize

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request if it may."""
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        await self._check(Request(scope))
        await self._app(scope, receive, send)

    async def _check(self, request: Request) -> None:
        if self._authorize is None:
            raise HTTPException(403, REFUSES_EVERYONE)
        allowed = self._authorize(request)
        if isawaitable(allowed):
            allowed = await allowed
        if allowed is not True:
            raise HTTPException(403)


class _Files(StaticFiles):
    """The page's files, with its policy."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file."""
        response = await super().get_response(path, scope)
        response.headers.update({**HEADERS, "cache-control": "no-cache"})
        return response


class _Page(EventSourceResponse):
    """The stream of a page, which its group lets in whatever its limits."""

    async def _enter(self, group: StreamGroup, scope: Scope) -> None:
        pass


class _Inspector:
    """The endpoints."""

    def __init__(self, group: StreamGroup, hub: Hub | FindHub | None) -> None:
        self._group = group
        self._hub = hub
        self._sampler = Sampler(group)
        self._token = secrets.token_urlsafe()

    async def stream(self, request: Request) -> Response:
        """Send what the page shows."""
        if request.headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}:
            raise HTTPException(403, "this stream is for the inspector's own page")
        hub = self._hub(request) if callable(self._hub) else self._hub
        view = View(_selection(request.query_params))
        return _Page(
            self._watch,
            view,
            hub,
            group=self._group,
            labels=LABELS,
            headers=HEADERS,
            retry=RETRY,
            max_lifetime=LIFETIME,
        )

    async def _watch(self, send_channel: EventSendChannel, view: View, hub: Hub | None) -> None:
        await send_channel.send(ServerSentEvent.json(self._hello(hub), event="hello"))
        sample = await self._sampler.read(hub)
        await send_channel.send(history_event(self._sampler.history))
        while True:
            for event in view.events(sample, self._sampler.closed):
                await send_channel.send(event)
            before = sample
            while sample is before:  # asyncio may wake a moment early
                await anyio.sleep_until((before.second + 1) * INTERVAL)
                sample = await self._sampler.read(hub)

    def _hello(self, hub: Hub | None) -> dict[str, object]:
        return {
            "group": self._group.name,
            "hub": None if hub is None else hub.name,
            "host": platform.node(),
            "python": platform.python_version(),
            "token": self._token,
        }

    async def kick(self, request: Request) -> Response:
        """End a stream."""
        site = request.headers.get("sec-fetch-site", "same-origin")
        token = request.headers.get(TOKEN_HEADER, "")
        if site != "same-origin" or not secrets.compare_digest(token.encode(), self._token.encode()):
            raise HTTPException(403, "a kick has to come from the inspector's own page; reload it")
        found = await self._group.close_stream(request.path_params["number"])
        return Response(status_code=204) if found else PlainTextResponse("no such stream is open", 404)


def _selection(query: Mapping[str, str]) -> Selection:
    sort, rows = query.get("sort", "trouble"), query.get("rows", "50")
    if sort not in SORTS:
        raise HTTPException(400, f"sort must be one of {', '.join(SORTS)}")
    if not (re.fullmatch("[0-9]{1,3}", rows) and 0 < int(rows) <= MAX_ROWS):
        raise HTTPException(400, f"rows must be a number from 1 to {MAX_ROWS}")
    return Selection(
        sort=sort, ascending=query.get("order") == "ascending", rows=int(rows), text=query.get("text", "")[:200]
    )
