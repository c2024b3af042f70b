# The one seam to a server: what a stream may ask of its client's connection, beyond ASGI.
#
#   connection.py        Connection: the questions, and the answers for a server that isn't known
#   discovery.py         which server is behind `receive` and `send`
#   uvicorn.py, hypercorn.py, hypercorn_h2.py    the connections of the servers that are known
#   uvicorn_exit.py      how a stream learns that its uvicorn is shutting down
#   hangup.py            a client that hangs up while its server isn't reading
#   bridge.py            ServerBridge: hands the connection past middlewares
#   inbox.py             one `receive` for two readers: the application and the stream
#   direct_write.py      writing a body to an idle connection directly; hypercorn_direct.py: on hypercorn
#   closures.py          looking into what frameworks put around `receive` and `send`
#   nobody_between.py    the proof that nobody is between a stream and its server
#   lookup_cache.py      what the streams of one loop have found out about their servers
#   middleware.py        Starlette's BaseHTTPMiddleware in between
#   transports.py        asyncio's transports: abort, flush, write without waiting

from __future__ import annotations

__all__ = ()
