# Two uvicorn servers in one event loop, in a thread that is not the main one, and an endpoint that stops either.

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import uvicorn
from shutdown_app import routes
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sse_trio import ServerBridge

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

servers: list[uvicorn.Server] = []


async def leave(request: Request) -> Response:
    for server in servers:
        if any(socket.getsockname()[1] == request.path_params["port"] for socket in server.servers[0].sockets):
            server.should_exit = True
    return PlainTextResponse("soon")


app = ServerBridge(Starlette(routes=[Route("/leave/{port:int}", leave), *routes]))


async def main() -> None:
    for http in ("h11", "httptools"):
        config = uvicorn.Config(app, port=0, http=http, lifespan="off", access_log=False)
        servers.append(uvicorn.Server(config))
    await asyncio.gather(*(server.serve() for server in servers))


if __name__ == "__main__":
    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    thread.join()
