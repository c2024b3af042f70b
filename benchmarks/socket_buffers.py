# How many bytes the kernel takes for a client that never reads, before a write has to wait.
#
#   python benchmarks/socket_buffers.py
#
# The table of docs/tuning.md, which shows the function: a row for each pair of buffer sizes. Linux only.

from __future__ import annotations

# docs: begin
import fcntl
import socket
import termios


def bytes_taken(send_buffer: int | None, receive_buffer: int | None) -> tuple[int, int]:
    """Write to a client that never reads. Return how much went before the socket was full, and how much waits here."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            if send_buffer is not None:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            server.settimeout(0.2)
            taken = 0
            while True:
                try:
                    taken += server.send(b"x" * 1024)
                except TimeoutError:
                    waiting = fcntl.ioctl(server, termios.TIOCOUTQ, bytes(4))
                    return taken, int.from_bytes(waiting, "little")


# docs: end

NAMES = {None: "the system's", 65_536: "65,536", 16_384: "16,384", 4096: "4096"}
SIZES = [(None, None), (None, 4096), (65_536, None), (65_536, 4096), (16_384, None), (16_384, 4096)]


def main():
    print("| `SO_SNDBUF` of the server | client's `SO_RCVBUF` | bytes taken | of these in the server's buffer |")
    print("|---|---|--:|--:|")
    for send_buffer, receive_buffer in SIZES:
        taken, waiting = bytes_taken(send_buffer, receive_buffer)
        print(f"| {NAMES[send_buffer]} | {NAMES[receive_buffer]} | {taken:,} | {waiting:,} |")


if __name__ == "__main__":
    main()
