# Bare ASGI endpoints that use what `find_connection` gives them, so that a test sees whether it does what it says.

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from _report import report

from sse_trio._servers.discovery import find_connection

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from sse_trio._servers.connection import Connection

__all__ = ("reach_app",)

HEAD: Message = {"type": "http.response.start", "status": 200, "headers": []}
seen: list[object] = []  # the shutdown events of the connections so far


def body(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def reach(connection: Connection, receive: Receive, send: Send) -> None:
    """Say which of the abilities are there."""
    event = connection.shutdown_event()
    seen.append(event)
    reached = {"event": event is not None, "same": seen[0] is event, "wait": connection.has_inbox}
    report("reach", f"reach-{len(seen)}", **reached)
    await send(HEAD)
    await send(body(b"", more=False))


async def abort(connection: Connection, receive: Receive, send: Send) -> None:
    """Drop the connection in the middle of a response, twice, and see that the server takes note."""
    await send(HEAD)
    await send(body(b"first"))
    report("aborted", "abort", done=[connection.abort(), connection.abort()])
    await receive_disconnect(receive)
    await send(body(b"into the void"))
    report("lost", "abort", lost=connection.is_lost)


async def stall(connection: Connection, receive: Receive, send: Send) -> None:
    """Send until `send` stays stuck, then abort: the stuck call must come back."""
    await send(HEAD)
    async with anyio.create_task_group() as nursery:

        async def flood() -> None:
            while not connection.is_lost:
                await send(body(b"x" * 65_536))
                progress[0] += 1
            report("released", "stall")

        progress = [0]
        nursery.start_soon(flood)
        await until_stuck(progress)
        report("aborted", "stall", done=connection.abort())


async def flush(connection: Connection, receive: Receive, send: Send) -> None:
    """Fill the client's window until the server holds bytes back itself, and wait for them to go."""
    await send(HEAD)
    given_up = anyio.CancelScope()
    while not given_up.cancelled_caught:
        with anyio.move_on_after(0.2) as given_up:
            await send(body(b"x" * 8_192))
    with anyio.move_on_after(0.5) as given_up:
        await connection.wait_flushed()
    report("first", "flush", flushed=not given_up.cancelled_caught)
    await connection.wait_flushed()
    report("second", "flush", flushed=True)
    await send(body(b"", more=False))


async def shutdown(connection: Connection, receive: Receive, send: Send) -> None:
    """Wait for the server's shutdown event, and end then."""
    await send(HEAD)
    await send(body(b"waiting"))
    event = connection.shutdown_event()
    if event is not None:
        await event.wait()
        report("notified", "shutdown", is_set=event.is_set())
    await send(body(b"", more=False))


async def unread(connection: Connection, receive: Receive, send: Send) -> None:
    """Never read the body, and write now and then, as a ping would: the client's end must come through."""
    await send(HEAD)
    assert connection.has_inbox
    async with anyio.create_task_group() as nursery:

        async def ping() -> None:
            while True:
                await send(body(b":\n\n"))
                await anyio.sleep(0.1)

        nursery.start_soon(ping)
        await connection.wait_disconnect()
        report("noticed", "unread")
        nursery.cancel_scope.cancel()


async def until_stuck(progress: list[int]) -> None:
    """Return when a counter has stood still for a while, which is what a stalled client looks like from here."""
    last = -1
    while progress[0] != last:
        last = progress[0]
        await anyio.sleep(0.3)


async def receive_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


ENDPOINTS = {endpoint.__name__: endpoint for endpoint in (reach, abort, stall, flush, shutdown, unread)}


async def reach_app(scope: Scope, receive: Receive, send: Send) -> None:
    await ENDPOINTS[scope["path"].rpartition("/")[2]](find_connection(scope, receive, send), receive, send)
