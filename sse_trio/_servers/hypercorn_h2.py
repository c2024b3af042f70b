# One stream of a hypercorn connection over HTTP/2, on either loop. The rules are in _servers/discovery.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from .connection import Connection

if TYPE_CHECKING:
    from .connection import ServerShutdown
    from .hypercorn import Hypercorn

__all__ = ("HypercornH2",)

_CANCEL = 0x8  # RFC 9113 section 7: "the stream is no longer needed"
_RESET_WITHIN = 0.5  # seconds; a connection that takes no 13 bytes of RST_STREAM in this time is stalled as a whole


class HypercornH2(Connection):
    """One HTTP/2 stream of a hypercorn connection: aborting it must leave the connection's other streams alone."""

    __slots__ = ("_connection", "_protocol", "_stream")

    # StreamBuffer.push() waits while the buffer is full, but StreamBuffer.pop() ends that wait whenever it has taken
    # less than 16 KiB, also when it took nothing because the client's window is shut [hypercorn 0.18].
    send_is_unbounded = True

    # The stream stays open for as long as the connection does [hypercorn 0.18].
    tells_failure = False

    def __init__(self, stream: Any, protocol: Any, connection: Hypercorn) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._connection = connection

    @property
    def is_lost(self) -> bool | None:
        return self._connection.is_lost

    @property
    def in_worker(self) -> bool:
        return self._connection.in_worker

    def says_gone(self, error: Exception, /) -> bool:
        # The last streams of a connection may end together. Each then sends a GOAWAY, after which hypercorn on trio
        # closes the socket under the other one's.
        return self._connection.says_gone(error)

    async def wait_flushed(self) -> None:
        buffer = self._protocol.stream_buffers.get(self._stream.stream_id)
        if buffer is not None and buffer.buffer:
            await buffer.drain()

    async def before_final(self) -> None:
        """Write END_STREAM ourselves.

        hypercorn leaves that to a task of the connection, and doesn't wait for it. At a shutdown, and on a client's
        GOAWAY, the end of the last stream closes the connection at once [hypercorn 0.18], and the ends of all streams
        that the task hasn't reached are lost. The task then finds this stream ended, and forgets it.

        At a shutdown hypercorn also closes the socket with the client's window updates unread in it, which resets it.
        """
        await self.wait_flushed()
        try:
            self._protocol.connection.end_stream(self._stream.stream_id)
            # What is flushed may be the frames of other streams, too. A writer that is abandoned must not lose them.
            with anyio.CancelScope(shield=True):
                await self._flush()
                await self._wait_written()
            await self._connection.wait_acknowledged()
        except Exception:  # noqa: BLE001, S110  h2's ProtocolError: the client has reset the stream, or is gone
            pass

    def shutdown_event(self) -> ServerShutdown | None:
        return self._connection.shutdown_event()

    def abort(self) -> bool:
        try:
            if self._stream.stream_id not in self._protocol.streams:
                return True  # the client has reset it, or it has ended
            self._protocol.connection.reset_stream(self._stream.stream_id, error_code=_CANCEL)
            self._protocol.task_group.spawn(self._send_reset)
        except Exception:  # noqa: BLE001  h2's ProtocolError, which this file cannot name; the nursery may be closed
            return False
        return True

    def cut_off(self) -> None:
        self.abort()  # the reset follows what the stream has sent

    async def _send_reset(self) -> None:
        """Send the reset, a frame among those of other streams. Runs in the nursery of the connection."""
        flushed = anyio.Event()
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(self._release_and_flush, flushed)
            with anyio.move_on_after(_RESET_WITHIN):
                await flushed.wait()
            if not flushed.is_set():
                # The socket is stalled, not only this stream, and hypercorn shields its write: drop the connection.
                self._connection.drop()

    async def _release_and_flush(self, flushed: anyio.Event) -> None:
        stream_id, protocol = self._stream.stream_id, self._protocol
        try:
            # A task that waits for room in this stream's buffer, or for its end, goes on. hypercorn's sending task then
            # finds the stream closed and forgets it.
            await protocol.stream_buffers[stream_id].close()
            protocol.priority.unblock(stream_id)
            await protocol.has_data.set()
            await self._flush()
            await self._wait_written()
        except Exception:  # noqa: BLE001, S110  the stream ended meanwhile; this runs in hypercorn's nursery
            pass
        finally:
            flushed.set()

    async def _flush(self) -> None:
        # Hypercorn has no public way to send h2's pending bytes.
        await self._protocol._flush()

    async def _wait_written(self) -> None:
        # Another task may be writing our bytes with its own; the lock is handed on in order.
        async with self._connection.send_lock:
            pass
