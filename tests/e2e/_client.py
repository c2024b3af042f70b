# A client that does to a server what clients do: reads bit by bit, stalls, resets, closes one half, comes back.
#
# Rule 1: blocking sockets with a deadline on each, so that a test that waits for ever fails and says where.
# Rule 2: HTTP/1.1 is taken apart by hand. A library hides what is tested: the final chunk, and what follows it.

from __future__ import annotations

import select
import socket
import time
from struct import pack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

WAIT = 10.0  # seconds that a read may take before the test fails; less than the 15 s after which a ping comes
SMALL = 4096  # bytes of receive buffer with which a client stalls soon


class Head:
    """The status and the headers of a response."""

    def __init__(self, lines: list[bytes]) -> None:
        self.status = int(lines[0].split(b" ", 2)[1])
        pairs = (line.decode("latin-1").split(":", 1) for line in lines[1:])
        self.headers = {name.lower(): value.strip() for name, value in pairs}


class Client:
    """One connection to a server on this machine."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:  # before the connection is made, or the window has been offered already
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(WAIT)
        self.socket.connect(("127.0.0.1", port))
        self._buffer = b""
        self.head: Head | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def send(self, method: str, target: str, *headers: str, body: bytes = b"") -> None:
        """Send a request; its headers say themselves how long the body is."""
        lines = [f"{method} {target} HTTP/1.1", "host: localhost", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode() + body)

    def get(self, target: str, *headers: str) -> Head:
        """Send a GET and read the head of the response."""
        self.send("GET", target, *headers)
        return self.read_head()

    def read_head(self) -> Head:
        """Read the head of a response."""
        self.head = Head(self._until(b"\r\n\r\n").split(b"\r\n")[:-2])
        return self.head

    def read_chunk(self) -> bytes:
        """Read one chunk of a chunked body; the final one is empty, and is taken off the connection as a whole."""
        size = int(self._until(b"\r\n"), 16)
        chunk = self._exactly(size + 2)
        assert chunk[-2:] == b"\r\n"
        return chunk[:-2]

    def read_until(self, text: bytes) -> bytes:
        """Read chunks of the body until this text has come; fail if the body ends before."""
        seen = b""
        while text not in seen:
            chunk = self.read_chunk()
            assert chunk, f"the body ended before {text!r}: {seen!r}"
            seen += chunk
        return seen

    def read_to_end(self) -> bytes:
        """Read the rest of a body to its clean end: the final chunk, or all that the content-length says."""
        assert self.head is not None
        if "content-length" in self.head.headers:
            return self._exactly(int(self.head.headers["content-length"]))
        assert self.head.headers["transfer-encoding"] == "chunked"
        rest = b""
        while chunk := self.read_chunk():
            rest += chunk
        return rest

    def at_eof(self) -> bool:
        """Whether the server has closed the connection with nothing unread on it; waits for that."""
        return not self._buffer and self.socket.recv(1) == b""

    def wait_reset(self, within: float) -> float:
        """Wait, without reading, until the server has dropped the connection; return when that was seen."""
        return wait_reset(self.socket, within)

    def close(self) -> None:
        """Go away with a FIN."""
        self.socket.close()

    def reset(self) -> None:
        """Go away with a RST, as a process that is killed does with data unread."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        self.socket.close()

    def close_sending_half(self) -> None:
        """Say that nothing more will be sent, and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _more(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise EOFError(f"the server closed the connection in the middle of a response, after {self._buffer!r}")
        self._buffer += data


def wait_reset(connection: socket.socket, within: float) -> float:
    """Wait, without reading, until the other end has dropped the connection; return when that was seen."""
    poll = select.poll()
    poll.register(connection, 0)  # POLLERR and POLLHUP are always reported
    assert poll.poll(within * 1000), f"still connected after {within} s"
    return time.monotonic()
