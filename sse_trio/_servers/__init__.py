# The one seam to a server: what a stream may ask of the connection that carries it, beyond ASGI.
#
#   connection.py        the questions, and the answers of a server that is not known
#   discovery.py         which server is behind `receive` and `send`
#   uvicorn.py, hypercorn.py, hypercorn_h2.py    one file for each server that is known
#   uvicorn_exit.py      how a stream learns that its uvicorn is shutting down
#   hangup.py            a client that hangs up while its server reads nothing
#   middleware.py        Starlette's BaseHTTPMiddleware in between
#   bridge.py            ServerBridge: hands the answers past middlewares
#   express.py           writing a body to an idle connection directly
#   send_wrappers.py     what frameworks put around the server's `send`
#   transports.py        what asyncio's transports are asked for

from __future__ import annotations

__all__ = ()
