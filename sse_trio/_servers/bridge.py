# `ServerBridge`: the ASGI wrapper that tells streams what the server knows.
#
# Middlewares wrap `receive` and `send`, and then nothing leads from them to the server any more. So this one goes
# outermost, takes what they lead to, and hands it on in the scope, which middlewares leave alone.
#
# Rule 1: `send` is handed on untouched. It is the fast path, unless there is a faster one (_servers/express.py).
# Rule 2: a server that is not known gets its application exactly as if there were no bridge.
# Rule 3: at most one call of the server's `receive` is under way. Whoever wants a message first makes it, on behalf
#         of everybody; if it is cancelled, the next one takes over.
# Rule 4: a body message leaves the inbox only by being returned to the application. What is read ahead of it is
#         bounded, so a client that goes on posting is slowed down by the server as if nobody watched for its end.

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from .._arguments.checks import check_coroutine_function, check_flag
from .discovery import EXTENSION, connection_of
from .express import ExpressLane

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .connection import ServerConnection

__all__ = ("ServerBridge",)

_READ_AHEAD = 65_536  # bytes of a request's body, as much as uvicorn and hypercorn take in one go themselves
_MESSAGE_COST = 256  # bytes a parked message counts beside its body, or a body sent byte by byte would be unbounded
_LOOK_AGAIN = 1.0  # seconds; only while a full inbox keeps us from hearing of the end, and no server has an event


class ServerBridge:
    """An ASGI application that lets the streams of another one use what their server can do beyond ASGI.

    Wrap the outermost application in it, outside of all middlewares::

        app = ServerBridge(Starlette(routes=[...], middleware=[...]))

    On uvicorn and hypercorn (both worker classes) streams then end as soon as the server shuts down, the connection
    of a client that takes nothing is dropped, and a producer may read the request's body while its stream waits for
    the client to go. On any other server, and for ``lifespan``, the application is called as if it were not wrapped.

    Args:
        app: the ASGI application.
        express: whether streams may write to an idle connection themselves, past the server's ``send``. What
            middlewares would do with the bodies of their messages is then not done, unless they change them: see
            docs/express-lane.md.
    """

    __slots__ = ("_app", "_express")

    def __init__(self, app: ASGIApp, *, express: bool = False) -> None:
        check_coroutine_function("app", app, "an ASGI application")
        check_flag("express", express)
        self._app = app
        self._express = express

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, with ``scope["extensions"]["sse_trio"]`` where the server is known."""
        if scope["type"] in {"http", "websocket"} and EXTENSION not in (scope.get("extensions") or {}):
            connection = connection_of(receive, send)
            if scope["type"] == "http" and connection.is_lost is not None:
                inbox = _Inbox(receive, connection)
                connection.wait_disconnect = inbox.wait_disconnect
                receive = inbox
                if self._express and connection.has_lane and scope["http_version"] == "1.1":
                    lane = ExpressLane(connection, send)
                    connection.try_write = lane.try_write
                    send = lane.send
            extensions: dict[str, object] = {**(scope.get("extensions") or {}), EXTENSION: {"connection": connection}}
            scope["extensions"] = extensions  # a copy of the scope would be a tenth of an idle stream's memory
        await self._app(scope, receive, send)


class _Inbox:
    """The application's ``receive``, and beside it a way to wait for the disconnect that takes nothing from it."""

    __slots__ = ("_changed", "_connection", "_disconnected", "_parked", "_parked_bytes", "_pulling", "_receive")

    def __init__(self, receive: Receive, connection: ServerConnection) -> None:
        self._receive = receive
        self._connection = connection
        self._parked: list[Message] = []  # hardly ever more than one; an empty deque is ten times as large
        self._parked_bytes = 0
        self._pulling = False  # invariant: some task is inside self._receive()
        self._disconnected = False  # invariant: the server has said so, and will say nothing else
        self._changed: anyio.Event | None = None  # there only while somebody waits for it

    async def __call__(self) -> Message:
        """ASGI's ``receive``: the body's messages in order, then ``http.disconnect``, again and again.

        No checkpoint if a message is at hand, as with the servers' own: ``Request.is_disconnected()`` asks from
        within a cancelled scope. Cancelling a call loses no message.
        """
        while not self._parked:
            if self._disconnected:
                return {"type": "http.disconnect"}
            await self._pull()
        message = self._parked.pop(0)
        self._parked_bytes -= _cost(message)
        self._notify()
        return message

    async def wait_disconnect(self) -> None:
        """Return when the client is gone; body messages that come first are parked for ``__call__``, up to 64 KiB.

        With more of the body unread than that, the server is not asked for the end that lies behind it; then the
        client counts as gone when the server has seen a write to it fail. Cancelling loses no message.
        """
        while not self._disconnected:
            if self._parked_bytes < _READ_AHEAD:
                await self._pull()
            elif self._connection.is_lost:
                return
            else:
                with anyio.move_on_after(_LOOK_AGAIN):
                    await self._wait_changed()

    async def _pull(self) -> None:
        if self._pulling:
            await self._wait_changed()
            return
        self._pulling = True
        try:
            self._take(await self._receive())
        finally:
            self._pulling = False
            self._notify()

    def _take(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self._disconnected = True
        else:
            self._parked.append(message)
            self._parked_bytes += _cost(message)

    async def _wait_changed(self) -> None:
        changed = self._changed = self._changed or anyio.Event()
        await changed.wait()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def _cost(message: Message) -> int:
    return len(message.get("body", b"")) + _MESSAGE_COST
