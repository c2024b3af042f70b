# A server with direct writes, and its client, on a socket with room for a given number of bytes: HTTP/1.1 on the wire.
#
# Rule 1: it takes what a real one takes: a send waits while the socket is full, a direct write is cut short.
# Rule 2: it fails for what must never happen: two writes at once, anything in the middle of a chunk.

from __future__ import annotations

import anyio

from sse_trio._servers.connection import Connection
from sse_trio._servers.direct_write import DirectWriter


class FakeConnection(Connection):
    """The connection of one response: ASGI's ``receive`` and ``send``, direct writes, and the socket's other end."""

    def __init__(self, *, room: int = 1 << 30, express: bool = True, is_own: bool = False) -> None:
        super().__init__()
        self.is_own = is_own
        self.room = room
        self.wire = bytearray()
        self.is_gone = self.is_aborted = self.is_over = self.has_begun = False
        self.direct_writes = self.sends = 0
        self._changed = anyio.Event()
        self._is_writing = False
        self.send = self._send
        if express:
            self.direct_writer = FakeWriter(self, self._send)
            self.send = self.direct_writer.send

    # --- what the client does

    def change(self, *, room: int = 0, is_gone: bool = False) -> None:
        """Take `room` more bytes; or leave."""
        self.room += room
        self.is_gone = self.is_gone or is_gone
        self._changed.set()
        self._changed = anyio.Event()

    async def serve(self, response) -> None:
        """Call a response for a GET on this connection."""
        scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "headers": []}
        await response({**scope, "extensions": {"sse_trio": {"connection": self}}}, self.receive, self.send)

    async def receive(self) -> dict[str, str]:
        """ASGI's ``receive``: a GET without a body."""
        while not self.is_gone:
            await self._changed.wait()
        return {"type": "http.disconnect"}

    # --- what the server does

    async def _send(self, message) -> None:
        self.sends += 1
        if message["type"] == "http.response.start":
            self.has_begun = True
            await self.write_all(b"HTTP/1.1 200 OK\r\n\r\n")
            return
        body = message["body"]
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        if not message["more_body"]:
            chunk += b"0\r\n\r\n"
        await self.write_all(chunk)
        self.is_over = not message["more_body"]

    async def write_all(self, data: bytes) -> None:
        assert not self._is_writing, "two writes at once"
        self._is_writing = True
        try:
            await anyio.lowlevel.checkpoint()
            while data and not self.is_gone and not self.is_aborted:
                data = data[self.take(data) :]
                if data:
                    await self._changed.wait()
        finally:
            self._is_writing = False

    def take(self, data: bytes) -> int:
        taken = min(self.room, len(data))
        self.room -= taken
        self.wire += data[:taken]
        return taken

    # --- what a stream may ask

    def is_own_send(self, send, /) -> bool:
        return self.is_own

    @property
    def is_lost(self) -> bool | None:
        return self.is_gone

    def abort(self) -> bool:
        self.is_aborted = True
        self.change()
        return True

    # --- what a direct write does

    def write_nowait(self, chunk: bytes) -> int:
        assert not self._is_writing, "two writes at once"
        if self.is_gone or self.is_aborted or self.is_over:
            return 0
        taken = self.take(chunk)
        self.direct_writes += bool(taken)
        return taken

    # --- what came of it

    def body(self) -> tuple[bytes, bool]:
        """What the client has of the body, and whether it saw its end. Fails where the framing is broken."""
        head, _, data = bytes(self.wire).partition(b"\r\n\r\n")
        assert b"HTTP/1.1 200 OK".startswith(head[:15])
        body = b""
        while data:
            size, line_end, data = data.partition(b"\r\n")
            if not line_end:
                break  # cut off
            if int(size, 16) == 0:
                assert data == b"\r\n", data
                return body, True
            body, data = body + data[: int(size, 16)], data[int(size, 16) :]
            assert not data or b"\r\n".startswith(data[:2]), data
            data = data[2:]
        return body, False


class FakeWriter(DirectWriter):
    """Direct writes to a fake connection."""

    def __init__(self, connection: FakeConnection, send) -> None:
        super().__init__(send)
        self._connection = connection

    @property
    def is_in_chunks(self) -> bool:
        return self._connection.has_begun

    def write_nowait(self, chunk: bytes, /) -> int:
        return self._connection.write_nowait(chunk)

    async def write_remainder(self, remainder: bytes, /) -> None:
        await self._connection.write_all(remainder)
