# A server that streams know, for tests of what they ask of its connection. Its subclasses say how it takes messages.

from __future__ import annotations

import anyio

from sse_trio import EventSourceResponse, StreamGroup
from sse_trio._servers.connection import Connection


class KnownServer(Connection):
    """Its client stays, and it holds nothing back."""

    def __init__(self, *, is_own=True):
        super().__init__()
        self.is_own = is_own

    def is_own_send(self, send, /):
        return self.is_own

    @property
    def is_lost(self):
        return False

    @property
    def is_flushed(self):
        return True

    async def receive(self):
        await anyio.sleep_forever()

    async def serve(self, response, headers=()):
        scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "headers": [*headers]}
        with anyio.fail_after(300):
            await response({**scope, "extensions": {"sse_trio": {"connection": self}}}, self.receive, self.send)


def response_of(produce, **options):
    """Return a response, and the list of its close reasons."""
    reasons = []

    async def on_close(reason):
        reasons.append(reason)

    options.setdefault("group", StreamGroup(signals=False))
    return EventSourceResponse(produce, on_close=on_close, **options), reasons
