# A server of the demo, as a process of its own: `python serve.py hypercorn|uvicorn app|theirs HOST PORT`.
#
# Rule 1: an application is the same object for both servers; only this file knows them.
# Rule 2: it ends with the process that started it: when its standard input ends.
# Rule 3: the kernel's send buffers are small, so that a client that doesn't read is noticed within seconds.

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from hypercorn.typing import Framework


def serve_hypercorn(app: Framework, listener: socket.socket) -> None:
    """Serve with hypercorn on trio."""
    from hypercorn.config import Config
    from hypercorn.trio import serve

    # Streams end at once; the page's other connections may not: Starlette's FileResponse is cancelled inside its last
    # `send`, before hypercorn has noted that the connection is idle. hypercorn drops those after graceful_timeout.
    patience = 0.25 if "app" in sys.argv else 3.0  # 3.0: hypercorn's own
    config = Config.from_mapping(bind=f"fd://{listener.fileno()}", loglevel="WARNING", graceful_timeout=patience)
    trio.run(partial(serve, app, config, shutdown_trigger=wait_for_signal))
    listener.detach()  # hypercorn has closed it


def serve_uvicorn(app: Framework, listener: socket.socket) -> None:
    """Serve with uvicorn on asyncio."""
    import uvicorn

    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


async def wait_for_signal() -> None:
    """Wait for SIGTERM."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            return


def end_with_parent() -> None:
    """Wait until the process that started this one has ended, and end too."""
    while os.read(0, 1024):  # not sys.stdin, whose lock a thread must not hold when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def listen(host: str, port: int) -> socket.socket:
    """Listen, with small send buffers for each connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((host, port))
    listener.listen(256)
    return listener


SERVERS = {"hypercorn": serve_hypercorn, "uvicorn": serve_uvicorn}


def main() -> None:
    """Serve until told to stop."""
    server, module, host, port = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    threading.Thread(target=end_with_parent, daemon=True).start()
    SERVERS[server](importlib.import_module(module).app, listen(host, int(port)))


if __name__ == "__main__":
    main()
