# An HTTP/3 client from aioquic's parts: streams of one QUIC connection, each with what has come on it.
#
# Rule 1: everything runs in the event loop of the test; what blocks (a server's report) is awaited in a thread.
# Rule 2: a wait ends at WAIT and says what for.

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration

from ._client import WAIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from aioquic.quic.events import QuicEvent


class H3Client(QuicConnectionProtocol):
    """One HTTP/3 connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.body: dict[int, bytes] = defaultdict(bytes)
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.ended: set[int] = set()
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def quic_event_received(self, event: QuicEvent) -> None:
        for each in self.http.handle_event(event):
            if isinstance(each, HeadersReceived):
                self.headers[each.stream_id] = dict(each.headers)
            elif isinstance(each, DataReceived):
                self.body[each.stream_id] += each.data
            if getattr(each, "stream_ended", False):
                self.ended.add(each.stream_id)
        task = asyncio.get_running_loop().create_task(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def get(self, path: str, *headers: tuple[bytes, bytes]) -> int:
        """Begin a GET, and return its stream's id."""
        stream = self._quic.get_next_available_stream_id()
        pairs = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path.encode())]
        self.http.send_headers(stream, [*pairs, *headers], end_stream=True)
        self.transmit()
        return stream

    def cancel(self, stream: int) -> None:
        """Ask the server to stop sending on a stream, as a browser does."""
        self._quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
        self.transmit()

    async def wait_until(self, done: Callable[[], object], what: str) -> None:
        """Return as soon as this is true; fail if it takes too long."""
        try:
            async with asyncio.timeout(WAIT) if hasattr(asyncio, "timeout") else _no_limit(), self._changed:
                await self._changed.wait_for(done)
        except TimeoutError:
            raise AssertionError(f"waited {WAIT} s for {what}; {dict(self.body)}") from None


@asynccontextmanager
async def _no_limit() -> AsyncIterator[None]:
    yield  # Python 3.10: pytest-timeout ends the test


@asynccontextmanager
async def open_h3(port: int, authority: Path) -> AsyncIterator[H3Client]:
    """Connect to a server on this machine that this authority vouches for."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
    configuration.load_verify_locations(str(authority))
    assert configuration.verify_mode in {None, ssl.CERT_REQUIRED}
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=H3Client) as client:
        assert isinstance(client, H3Client)
        yield client
