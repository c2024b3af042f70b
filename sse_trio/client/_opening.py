# What a request that was cancelled leaves in httpcore's pool over HTTP/1.1.
#
# Rule 1: if a cancellation comes when the connection is open and the request has not begun, httpcore keeps the
#         connection in its pool and never uses it again: a socket and a place in the pool, until the client is closed.
#         So we close it.
# Rule 2: once the request has begun, httpcore closes the connection itself. Over HTTP/2 others may wait for the
#         connection, and can use it.

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import httpx

from .._loops.uninterrupted import uninterrupted
from ._httpcore import find_opened, is_unused

__all__ = ("OpeningWatch",)

# A dead peer must not hold us.
_SECONDS = 5.0


class OpeningWatch:
    """The connection that is being opened for a request."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._opened: Any = None

    def note(self, name: str, trace: Callable[..., object]) -> None:
        """Follow a request, given the name of an event and the request's extension `trace`."""
        if name.startswith(("http11.", "http2.")):
            self._opened = None
        elif name.endswith(".complete"):  # connected, or TLS is set up
            self._opened = find_opened(self._client, trace)

    async def send_failed(self) -> None:
        """Close the connection if the request that it was opened for has not begun."""
        opened, self._opened = self._opened, None
        if opened is not None and is_unused(opened):
            await uninterrupted(partial(_close, opened))


async def _close(connection: Any) -> None:
    with anyio.move_on_after(_SECONDS):
        await connection.aclose()
