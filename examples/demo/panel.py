# The panel "Try to lose an event": the numbers that clients count, what visitors order, and what the clients report.
#
# The clients are in the demo's first process, because they outlive this server. Orders and reports go through the hub
# that both processes have open.
#
# Rule: only a page of this server, opened on this machine, may give orders. Another site can't set the header without
#       asking first (a CORS preflight), which isn't answered; and a name that an attacker's DNS points here isn't ours.

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from shared import ORDERS, REPORTS, SEND_TIMEOUT, Tally, follow, open_shared_hub, unchanged
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sse_trio import EventSendChannel, EventSourceResponse, Hub, ServerSentEvent, last_event_id

__all__ = ("follow_reports", "is_local", "numbers", "open_panel", "order")

NAMES = frozenset({"open", "stall", "kick", "restart"})
HERE = frozenset({"127.0.0.1", "::1", "localhost"})


def is_local(request: Request) -> bool:
    """Whether this is a visitor on this machine, who may look at the open streams and give orders."""
    return request.client is not None and request.client.host in HERE


async def numbers(request: Request) -> EventSourceResponse:
    """Stream the numbers to a client, from where it was."""
    state = request.state
    return EventSourceResponse(
        follow(state.hub, state.tally, last_event_id(request), unchanged),
        send_timeout=SEND_TIMEOUT,
        labels={"client": request.query_params.get("client", "")},
        group=state.group,
    )


async def order(request: Request) -> Response:
    """Hand a visitor's order to the clients."""
    name = request.path_params["name"]
    if name not in NAMES:
        raise HTTPException(404)
    if not is_local(request) or "x-demo" not in request.headers or request.url.hostname not in HERE:
        raise HTTPException(403)
    await request.state.hub.publish(ORDERS, name)
    return Response(status_code=204)


async def follow_reports(send_channel: EventSendChannel, hub: Hub) -> None:
    """Send the clients' last report, and each new one: a page's second producer."""
    async with hub.subscribe(REPORTS, replay=1) as subscription:
        async for report in subscription:
            await send_channel.send(ServerSentEvent(report.data, event="report"))


@asynccontextmanager
async def open_panel() -> AsyncIterator[tuple[Hub, Tally]]:
    """Open the hub and the tally that this server shares with the clients; its own ones if it was started alone."""
    with TemporaryDirectory() as alone:
        folder = Path(os.environ.get("DEMO_FOLDER", alone))
        with Tally(folder / "sse_trio") as tally:
            async with open_shared_hub(folder) as hub:
                yield hub, tally
