# `ServerBridge`: the ASGI wrapper that gives streams what the server can do beyond ASGI.
#
# Middlewares wrap `receive` and `send`, and then nothing leads from these to the server any more. The bridge is
# therefore the outermost application, or the outermost middleware: it finds the connection behind the server's own
# callables and places it in the scope, which middlewares leave alone.
#
# Rule 1: `send` stays the server's own, unless you enable direct writes (_servers/direct_write.py).
# Rule 2: an application on an unknown server is called exactly as if there were no bridge.
# Rule 3: there are no direct writes past a `send` outside of the bridge that may change bodies. Inside of it, those
#         that do are noticed (_servers/direct_write.py); outside of it they can't be.

from __future__ import annotations

from typing import TYPE_CHECKING

from .._arguments.checks import check_coroutine_function, check_flag
from .discovery import EXTENSION, connection_of, leads_to_server

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ("ServerBridge",)


class ServerBridge:
    """An ASGI application that lets the streams of another one use what their server can do beyond ASGI.

    In FastAPI and Starlette, add it as the last middleware, so that it is outside of the others::

        app.add_middleware(ServerBridge)

    Any other ASGI application you wrap, outside of all middlewares::

        app = ServerBridge(application)

    On uvicorn and hypercorn (both worker classes), streams then end as soon as the server shuts down, a client that
    stops reading is dropped, and a producer may read the request's body while its stream waits for the disconnect.
    On any other server, and for ``lifespan``, the application is called as if it were not wrapped.

    Args:
        app: the ASGI application.
        express: whether streams may write to an idle connection directly, past the server's ``send``, also where
            middlewares are in between. These don't see the bodies that are written this way, unless they change
            bodies: see docs/direct-writes.md. Where nobody is in between, direct writes need no option.
    """

    __slots__ = ("_app", "_express")

    def __init__(self, app: ASGIApp, *, express: bool = False) -> None:
        check_coroutine_function("app", app, "an ASGI application")
        check_flag("express", express)
        self._app = app
        self._express = express

    def __repr__(self) -> str:
        """The call that made it."""
        return f"ServerBridge({self._app!r}, express={self._express})"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, with ``scope["extensions"]["sse_trio"]`` where the server is known."""
        if scope["type"] in {"http", "websocket"} and EXTENSION not in (scope.get("extensions") or {}):
            connection = connection_of(receive, send)
            if scope["type"] == "http":
                direct_writes = self._express and scope["http_version"] == "1.1" and leads_to_server(send)
                receive, send = connection.bridge(receive, send, direct_writes=direct_writes)
            extensions: dict[str, object] = {**(scope.get("extensions") or {}), EXTENSION: {"connection": connection}}
            scope["extensions"] = extensions  # a copy of the scope would be a tenth of an idle stream's memory
        await self._app(scope, receive, send)
