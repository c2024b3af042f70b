# The two kinds of server that a stream can meet in a test: behind ServerBridge, and unknown.
#
# Rule 1: BridgedServer can do everything that a known server can, PlainServer nothing beyond ASGI. A stream must end
#         cleanly on both.
# Rule 2: the stream gives both its close reason, and the test reads it there.

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from .._servers.connection import Connection
from .._servers.discovery import EXTENSION

if TYPE_CHECKING:
    from .._reasons import CloseReason
    from .._servers.connection import ServerShutdown
    from ._exchange import Exchange

__all__ = ("BridgedServer", "PlainServer")


class PlainServer(Connection):
    """A server that can do nothing beyond ASGI."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self.close_reason: CloseReason | None = None
        self._exchange = exchange
        exchange.scope["extensions"][EXTENSION] = {"connection": self}

    def stream_closed(self, reason: CloseReason, /) -> None:
        self.close_reason = reason

    def request_shutdown(self) -> None:
        raise RuntimeError(
            "a server without a bridge can't announce its shutdown; open the stream with bridge=True, or call "
            "request_shutdown() of the response's StreamGroup"
        )


class BridgedServer(PlainServer):
    """uvicorn or hypercorn behind ``ServerBridge``."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._shutdown = anyio.Event()

    @property
    def has_inbox(self) -> bool:
        return True

    async def wait_disconnect(self) -> None:
        await self._exchange.wait_disconnect()

    @property
    def is_lost(self) -> bool | None:
        return self._exchange.is_disconnected

    def abort(self) -> bool:
        self._exchange.abort()
        return True

    def cut_off(self) -> None:
        self._exchange.cut_off()

    def shutdown_event(self) -> ServerShutdown | None:
        return self._shutdown

    def request_shutdown(self) -> None:
        self._shutdown.set()
