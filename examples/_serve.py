# How the examples are served: hypercorn's trio worker, or uvicorn with SERVER=uvicorn; on port 8000, or on PORT.
#
# This is all that an application needs around it. The streams end at Ctrl+C and SIGTERM because the application is
# wrapped in ServerBridge, which tells them that the server wants to stop.

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def serve(app: ASGIApp) -> None:
    """Serve until Ctrl+C or SIGTERM."""
    port = int(os.environ.get("PORT", "8000"))
    if os.environ.get("SERVER", "hypercorn") == "uvicorn":
        serve_uvicorn(app, port)
    else:
        serve_hypercorn(app, port)


def serve_uvicorn(app: ASGIApp, port: int) -> None:
    """Serve on asyncio. uvicorn looks after the signals itself."""
    import uvicorn

    uvicorn.run(app, port=port, log_level="warning")


def serve_hypercorn(app: ASGIApp, port: int) -> None:
    """Serve on trio."""
    import trio
    from hypercorn.config import Config
    from hypercorn.trio import serve

    config = Config.from_mapping(bind=f"127.0.0.1:{port}", loglevel="WARNING")
    # hypercorn describes ASGI in types of its own, which no framework's applications match.
    trio.run(partial(serve, app, config, shutdown_trigger=wait_for_signal))  # type: ignore[arg-type]


async def wait_for_signal() -> None:
    """Return at Ctrl+C or SIGTERM."""
    import trio

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return
