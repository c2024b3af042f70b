# stream_inspector(): the routes of the inspector.
#
# Rule 1: every request passes the guard (_guard.py), including those for the page's own files.
# Rule 2: a kick or a stop changes something, so it must come from the page. It carries a header that another origin can
#         send only after a preflight request (Fetch standard, "CORS-preflight request"), which the inspector does not
#         answer. The header has a secret that only readers of the stream know. Other origins can't read the stream,
#         whatever the application's CORS middleware allows.
# Rule 3: the page runs only its own files: its policy forbids inline scripts and styles, other origins, and framing.
# Rule 4: the pages' streams are in a group of their own. They take no place of the clients' streams, are not counted
#         with them, and can be opened when the group is full, which is when they are needed. They end when the group
#         shuts down. After its `max_lifetime` a page reconnects, and is authorized again.

from __future__ import annotations

import platform
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
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

from .._arguments.checks import check_any_function, check_function, check_instance
from .._channels.send_channel import EventSendChannel
from .._groups.group import StreamGroup
from .._hubs.hub import Hub
from .._requests.authorize import Authorize, check_same_origin
from .._runs.runs import Runs
from .._streams.response import EventSourceResponse
from .._wire.event import ServerSentEvent
from ._guard import Guard, check_hosts
from ._sampler import INTERVAL, Sampler
from ._view import MAX_ROWS, SORTS, Selection, View, history_event

if TYPE_CHECKING:
    from starlette.types import Scope

__all__ = ("Authorize", "stream_inspector")

FindHub: TypeAlias = Callable[[Request], Hub | None]
FindRuns: TypeAlias = Callable[[Request], Runs | None]

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


def stream_inspector(
    group: StreamGroup,
    hub: Hub | FindHub | None = None,
    *,
    runs: Runs | FindRuns | None = None,
    authorize: Authorize | None = None,
    allowed_hosts: Sequence[str] | None = None,
) -> Starlette:
    """Return an application with a page that shows the streams of a group, live, and can kick them.

    ::

        def authorize(request):
            return request.user.is_admin

        Mount("/streams", stream_inspector(group, hub=lambda request: request.state.hub, authorize=authorize))

    Args:
        group: the group whose streams are shown.
        hub: the hub whose figures and topics are shown; or a function that takes the request and returns the hub, for
            a hub that is opened later, in the lifespan.
        runs: the runs of this process that are shown, and can be stopped; otherwise as ``hub``.
        authorize: called for every request, including the page's files and its stream. Only ``True`` grants access;
            anything else is a 403. It may be async; a plain function must not block. It may raise Starlette's
            ``HTTPException``, for example to ask for a password. A kick is a POST, so it can let some users only look.
            It is called for a stream when the stream opens, and again within 15 minutes. Without it, every request
            is refused.
        allowed_hosts: the host names that the inspector is served under, without ports; any other is a 403. Without
            it, a client on this machine may use ``localhost``, an address, or a name without a dot, because any other
            name could be an attacker's that points at this machine (DNS rebinding). Give it if a proxy on this machine
            passes on the name from outside.

    While no page is open, nothing is read.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """
    check_instance("group", group, StreamGroup, "a StreamGroup")
    if hub is not None and not isinstance(hub, Hub):
        check_function("hub", hub, "a Hub, a function of the request that returns one, or None")
    if runs is not None and not isinstance(runs, Runs):
        check_function("runs", runs, "a Runs, a function of the request that returns one, or None")
    if authorize is not None:
        check_any_function("authorize", authorize, "a function of the request, or None to refuse everyone")
    check_hosts(allowed_hosts)
    inspector = _Inspector(group, hub, runs)
    routes = [
        Route("/stream", inspector.stream),
        Route("/kick/{number}", inspector.kick, methods=["POST"]),
        Route("/stop", inspector.stop, methods=["POST"]),
        Mount("/", _Files(directory=STATIC, html=True)),
    ]
    # Inside the application, whose handlers turn an HTTPException into a response.
    return Starlette(routes=[Mount("/", Guard(Router(routes), authorize, allowed_hosts))])


class _Files(StaticFiles):
    """The page's files, with its policy."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file."""
        response = await super().get_response(path, scope)
        response.headers.update({**HEADERS, "cache-control": "no-cache"})
        return response


class _Inspector:
    """The endpoints."""

    def __init__(self, group: StreamGroup, hub: Hub | FindHub | None, runs: Runs | FindRuns | None) -> None:
        self._group = group
        self._pages = StreamGroup(name="inspector")
        self._hub = hub
        self._runs = runs
        self._sampler = Sampler(group)
        self._token = secrets.token_urlsafe()

    async def stream(self, request: Request) -> Response:
        """Send what the page shows."""
        check_same_origin(request, default="none", why="this stream is for the inspector's own page")
        hub = self._hub(request) if callable(self._hub) else self._hub
        runs = self._runs_of(request)
        view = View(_selection(request.query_params))
        return EventSourceResponse(
            self._watch,
            view,
            hub,
            runs,
            group=self._pages,
            headers=HEADERS,
            retry=RETRY,
            max_lifetime=LIFETIME,
        )

    def _runs_of(self, request: Request) -> Runs | None:
        return self._runs(request) if callable(self._runs) else self._runs

    async def _watch(self, send_channel: EventSendChannel, view: View, hub: Hub | None, runs: Runs | None) -> None:
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(self._end_with_the_group)
            await self._show(send_channel, view, hub, runs)

    async def _end_with_the_group(self) -> None:
        await self._group.wait_shutdown_requested()
        self._pages.request_shutdown()

    async def _show(self, send_channel: EventSendChannel, view: View, hub: Hub | None, runs: Runs | None) -> None:
        await send_channel.send(ServerSentEvent.json(self._hello(hub), event="hello"))
        sample = await self._sampler.read()
        await send_channel.send(history_event(self._sampler.history))
        while True:
            figures = self._sampler.read_hub(sample, hub), self._sampler.read_runs(sample, runs)
            for event in view.events(sample, *figures, self._sampler.closed):
                await send_channel.send(event)
            before = sample
            while sample is before:  # asyncio may wake the task a moment early
                await anyio.sleep_until((before.second + 1) * INTERVAL)
                sample = await self._sampler.read()

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
        self._check_press(request, "a kick")
        number = request.path_params["number"]
        is_number = re.fullmatch("[0-9]{1,18}", number) is not None
        found = is_number and await self._group.kick_stream(int(number))
        return Response(status_code=204) if found else PlainTextResponse("no such stream is open", 404)

    async def stop(self, request: Request) -> Response:
        """Stop a run."""
        self._check_press(request, "a stop")
        runs, key = self._runs_of(request), request.query_params.get("key", "")
        found = runs is not None and key and await runs.stop(key)
        return Response(status_code=204) if found else PlainTextResponse("no such run is known", 404)

    def _check_press(self, request: Request, what: str) -> None:
        why = f"{what} has to come from the inspector's own page; reload it"
        check_same_origin(request, default="same-origin", why=why)
        token = request.headers.get(TOKEN_HEADER, "")
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            raise HTTPException(403, why)


def _selection(query: Mapping[str, str]) -> Selection:
    sort, rows = query.get("sort", "trouble"), query.get("rows", "50")
    if sort not in SORTS:
        raise HTTPException(400, f"sort must be one of {', '.join(SORTS)}")
    if not (re.fullmatch("[0-9]{1,3}", rows) and 0 < int(rows) <= MAX_ROWS):
        raise HTTPException(400, f"rows must be a number from 1 to {MAX_ROWS}")
    return Selection(
        sort=sort, ascending=query.get("order") == "ascending", rows=int(rows), text=query.get("text", "")[:200]
    )
