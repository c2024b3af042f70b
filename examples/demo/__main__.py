# Starts the demo: `python examples/demo [--server hypercorn|uvicorn] [--host HOST] [--port PORT]`.
#
# Rule 1: the app is the same object for both servers; only this file knows them.
# Rule 2: Ctrl+C ends the process at once, with the page open. The servers would wait for open streams; the streams
#         end because `ServerBridge` in app.py tells them that the server wants to stop.

from __future__ import annotations

import argparse
import logging
import signal
from functools import partial
from typing import cast

import trio
from app import app

log = logging.getLogger("demo")


def serve_hypercorn(host: str, port: int) -> None:
    """Serve with hypercorn on trio."""
    from hypercorn.config import Config
    from hypercorn.trio import serve
    from hypercorn.typing import Framework

    # Streams end at once; the page's other connections may not: Starlette's FileResponse is cancelled inside its last
    # `send`, before hypercorn has noted that the connection is idle. hypercorn drops those after graceful_timeout.
    config = Config.from_mapping(bind=f"{host}:{port}", loglevel="WARNING", graceful_timeout=0.25)
    trio.run(partial(serve, cast(Framework, app), config, shutdown_trigger=wait_for_signal))


def serve_uvicorn(host: str, port: int) -> None:
    """Serve with uvicorn on asyncio."""
    import uvicorn

    uvicorn.run(app, host=host, port=port, log_level="warning")


async def wait_for_signal() -> None:
    """Wait for Ctrl+C or SIGTERM."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


SERVERS = {"hypercorn": serve_hypercorn, "uvicorn": serve_uvicorn}


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(description="Plots this machine live over Server-Sent Events.")
    parser.add_argument("--server", choices=SERVERS, default="hypercorn")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.info("http://%s:%s, %s. Ctrl+C ends it.", options.host, options.port, options.server)
    SERVERS[options.server](options.host, options.port)


if __name__ == "__main__":
    main()
