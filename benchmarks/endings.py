"""How a stream ends, with each library on each server: the table in README.md. ``python benchmarks/endings.py``.

Needs uvicorn, hypercorn, sse-starlette and fastapi (the dependency group `bench`). Every cell starts a server in a
process of its own on a free port, talks to it over a bare socket, and prints what it saw and whether that is good.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

LIBRARIES = ("sse_trio", "sse_starlette", "fastapi")
SERVERS = {
    "uvicorn": ("uvicorn", "--log-level", "critical", "--port", "{port}"),
    "hypercorn asyncio": ("hypercorn", "--worker-class", "asyncio", "--bind", "127.0.0.1:{port}"),
    "hypercorn trio": ("hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:{port}"),
}
FINAL_CHUNK = b"0\r\n\r\n"


class Server:
    """A server under test, and what its streams noted."""

    def __init__(self, library, server, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.notes = Path(folder, "notes")
        self.notes.touch()
        command = [sys.executable, "-m", *(part.format(port=self.port) for part in SERVERS[server]), "endings_apps:app"]
        self.process = subprocess.Popen(
            command,
            cwd=Path(__file__).parent,
            env={**os.environ, "LIBRARY": library, "NOTES": str(self.notes)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that kill() reaches hypercorn's workers as well
        )

    def wait_ready(self):
        if wait_until(self.is_listening, 20) is None:
            raise SystemExit(f"{self.process.args} does not start; run it by hand in {Path(__file__).parent}")

    def is_listening(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def get(self, path, receive_buffer=None):
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(3)
        client.connect(("127.0.0.1", self.port))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return client

    def get_stalled(self):
        client = self.get("/flood", receive_buffer=4096)
        client.recv(100)
        return client

    def cleanups(self):
        return self.notes.read_text().count("cleaned up")

    def seconds_to_cleanup(self, limit):
        return wait_until(self.cleanups, limit)

    def seconds_to_exit(self, limit=6):
        self.process.send_signal(signal.SIGTERM)
        return wait_until(lambda: self.process.poll() is not None, limit)

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def wait_until(condition, limit):
    """Return the seconds until the condition held, or None."""
    start = time.monotonic()
    while time.monotonic() - start < limit:
        if condition():
            return round(time.monotonic() - start, 2)
        time.sleep(0.02)
    return None


@contextmanager
def running(library, server):
    with tempfile.TemporaryDirectory() as folder:
        running_server = Server(library, server, folder)
        try:
            running_server.wait_ready()
            yield running_server
        finally:
            running_server.kill()


def read(client, until=None, limit=3.0):
    """Read to a mark, or to the end of the connection."""
    data = b""
    client.settimeout(limit)
    while until is None or until not in data:
        try:
            received = client.recv(65_536)
        except OSError:
            break
        if not received:
            break
        data += received
    return data


# Each cell gives what it saw and whether it is good.


def status_of_a_404(server):
    """HTTPException(404) first: a 404"""
    line = read(server.get("/missing"), b"\r\n").partition(b"\r\n")[0].decode()
    return line or "nothing", " 404" in line


def cleanup_after_disconnect(server):
    """the client leaves: cleaned up within 0.1 s"""
    client = server.get("/idle")
    read(client, b"first")
    client.close()
    seconds = server.seconds_to_cleanup(3)
    return seconds, seconds is not None and seconds <= 0.1


def cleanup_after_stall(server):
    """a client stops reading: cleaned up within send_timeout + 1 s"""
    client = server.get_stalled()
    seconds = server.seconds_to_cleanup(5)
    client.close()
    return seconds, seconds is not None and seconds <= 2


def events_before_a_failure(server):
    """five events, then an exception: five arrive"""
    events = read(server.get("/five")).count(b"data: ")
    return events, events == 5


def exit_with_idle_streams(server):
    """SIGTERM with 5 streams open: gone within 2 s"""
    return five_idle(server)[0]


def final_chunks_at_exit(server):
    """SIGTERM: 5 clients get the final chunk"""
    return five_idle(server)[1]


def five_idle(server):
    clients = [server.get("/idle") for _ in range(5)]
    for client in clients:
        read(client, b"first")
    seconds = server.seconds_to_exit()
    finals = sum(read(client, limit=0.5).endswith(FINAL_CHUNK) for client in clients)
    return (seconds, seconds is not None and seconds <= 2), (finals, finals == 5)


def exit_with_a_stalled_stream(server):
    """SIGTERM with a client that does not read: gone within 2 s"""
    client = server.get_stalled()
    time.sleep(0.5)
    seconds = server.seconds_to_exit()
    client.close()
    return seconds, seconds is not None and seconds <= 2


CELLS = (
    status_of_a_404,
    cleanup_after_disconnect,
    cleanup_after_stall,
    events_before_a_failure,
    exit_with_idle_streams,
    final_chunks_at_exit,
    exit_with_a_stalled_stream,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--library", choices=LIBRARIES, action="append")
    libraries = parser.parse_args().library or LIBRARIES
    for cell in CELLS:
        print(cell.__doc__)
        for library in libraries:
            for name in SERVERS:
                with running(library, name) as server:
                    seen, good = cell(server)
                print(f"    {'+' if good else '-'} {library:14} {name:18} {seen}", flush=True)


if __name__ == "__main__":
    main()
