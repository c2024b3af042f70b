# An HTTP/2 client, over TLS or with prior knowledge. The test decides which streams may go on, for flow control is what
# is tested.
#
# Rule 1: the connection's own window is opened wide at once, so that a stream is stalled by its own window only.
# Rule 2: a stream's window is opened again for what has come, unless the stream is in `stalled`.
# Rule 3: nothing reads unless the test pumps. Not pumping is how the whole connection is stalled.

from __future__ import annotations

import socket
import ssl
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from ._client import WAIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

WIDE = 2**30  # bytes


class H2Client:
    """One HTTP/2 connection to a server on this machine."""

    def __init__(self, port: int, context: ssl.SSLContext | None, *, receive_buffer: int | None = None) -> None:
        plain = socket.socket()
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(WAIT)
        plain.connect(("127.0.0.1", port))
        self.socket = plain if context is None else _wrap(plain, context)
        self.connection = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.connection.initiate_connection()
        self.connection.increment_flow_control_window(WIDE)
        self.flush()
        self.status: dict[int, int] = {}
        self.body: dict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}  # the error code, by stream
        self.stalled: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def flush(self) -> None:
        """Send what h2 has to send."""
        self.socket.sendall(self.connection.data_to_send())

    def get(self, path: str, *, window: int = 0) -> int:
        """Begin a GET with so much more of a window than 65,535 bytes, and return its stream's id."""
        stream_id = self.connection.get_next_available_stream_id()
        headers = [(":method", "GET"), (":path", path), (":scheme", "https"), (":authority", "localhost")]
        self.connection.send_headers(stream_id, headers, end_stream=True)
        if window:
            self.connection.increment_flow_control_window(window, stream_id)
        self.flush()
        return stream_id

    def reset_stream(self, stream_id: int) -> None:
        """Cancel a stream, and leave the others alone."""
        self.connection.reset_stream(stream_id, 0x8)
        self.flush()

    def pump_until(self, done: Callable[[], object], what: str) -> None:
        """Receive until this is true; fail if it takes too long."""
        until = time.monotonic() + WAIT
        while not done():
            assert time.monotonic() < until, f"waited {WAIT} s for {what}"
            self.pump()

    def pump_to_eof(self) -> None:
        """Receive until the server has closed the connection, and close it as well.

        Nothing is sent meanwhile: a closed socket answers with a RST, for which the kernel throws away what it has for
        us, the last END_STREAM among it.
        """
        until = time.monotonic() + WAIT
        with suppress(EOFError):
            while time.monotonic() < until:
                self._receive()
            raise AssertionError(f"waited {WAIT} s for the end of the connection")
        self.socket.close()

    def pump(self) -> None:
        """Receive once, and send what h2 answers."""
        self._receive()
        with suppress(OSError):  # the server has closed it; there may be more to read
            self.flush()

    def _receive(self) -> None:
        try:
            data = self.socket.recv(65_536)
        except (ConnectionResetError, ssl.SSLError):  # it closed the connection with something of ours unread
            data = b""
        if not data:
            raise EOFError("the server closed the connection")
        for event in self.connection.receive_data(data):
            self._handle(event)

    def _handle(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self.status[event.stream_id] = int(dict(event.headers)[":status"])
        elif isinstance(event, DataReceived):
            self.body[event.stream_id] += event.data
            if event.flow_controlled_length and event.stream_id not in self.stalled:
                with suppress(ProtocolError):  # the end of the stream, or of all, has come with its last data
                    self.connection.increment_flow_control_window(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, StreamReset):
            self.reset[event.stream_id] = int(event.error_code)


def _wrap(plain: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    context.set_alpn_protocols(["h2"])
    wrapped = context.wrap_socket(plain, server_hostname="localhost")
    assert wrapped.selected_alpn_protocol() == "h2"
    return wrapped
