# The clients of side_by_side.py: plain sockets in one thread, which count, and read the time that each event carries.
# And what they and others cost their machine.

from __future__ import annotations

import selectors
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

END = b"\n\n"


def connect(port, target):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(f"GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    return connection


def flood(port, n):
    """Take n events of one stream; return seconds and the client's own CPU seconds."""
    began, cpu = time.perf_counter(), time.process_time()
    seen, tail = 0, b""
    with connect(port, f"/flood?n={n}") as connection:
        while seen < n:
            data = connection.recv(262_144)
            if not data:
                raise RuntimeError(f"the stream ended after {seen} of {n} events")
            data = (tail + data).replace(b"\r", b"")
            # Of a chunk's own line ends nothing is counted: it ends where an event does.
            seen += data.count(b"data: ")
            tail = data[-5:]  # it may end in the midst of a "data: ", and holds no whole one
    return time.perf_counter() - began, time.process_time() - cpu


def short_streams(port, n):
    """Open n streams of one event, one after another, and take each to its end."""
    for _ in range(n):
        with connect(port, "/flood?n=1") as connection:
            tail = b""
            while not tail.endswith(b"0\r\n\r\n"):
                data = connection.recv(65_536)
                if not data:
                    raise RuntimeError("a stream was cut off")
                tail = (tail + data)[-5:]


class Streams:
    """Streams of one server, each with its first bytes."""

    def __init__(self, port, count, target="/sub"):
        self._port = port
        self._stack = ExitStack()
        self._selector = self._stack.enter_context(selectors.DefaultSelector())
        for _ in range(count):
            connection = self._stack.enter_context(connect(port, target))
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ)
        self.count = count

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stack.close()

    def publish(self, n, hz):
        """Have n events published, and take them all; return latencies in ms, and the client's own CPU seconds."""
        latencies = []
        cpu = time.process_time()
        deadline = time.monotonic() + n / hz + 10
        with connect(self._port, f"/publish?n={n}&hz={hz}"):
            while len(latencies) < n * self.count:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{len(latencies)} of {n * self.count} deliveries came in time")
                for key, _ in self._selector.select(1):
                    latencies += self._latencies(key.fileobj)
        return latencies, time.process_time() - cpu

    def take(self, seconds):
        """Take what comes for so long; return the latencies in ms, and the client's own CPU seconds."""
        latencies = []
        cpu = time.process_time()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                latencies += self._latencies(key.fileobj)
        return latencies, time.process_time() - cpu

    def drain(self, seconds):
        """Take what comes for so long: heads, and what a subscriber is told first."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if not key.fileobj.recv(65_536):
                    raise RuntimeError("a stream has ended")

    @staticmethod
    def _latencies(connection):
        data = connection.recv(65_536)
        now = time.monotonic_ns()
        # An event is far smaller than a packet of the loopback, so it comes whole.
        return [(now - int(each[6 : each.index(b":", 6)])) / 1e6 for each in data.splitlines() if each[:6] == b"data: "]


def cpu_seconds(pid):
    """CPU seconds of a process: Linux has those of the threads that live in nanoseconds, psutil in steps of ten ms."""
    try:
        threads = [*Path(f"/proc/{pid}/task").glob("*/schedstat")]
        if threads:
            return sum(int(path.read_text().split()[0]) for path in threads) / 1e9
    except OSError:  # a thread that has just ended
        pass
    return sum(psutil.Process(pid).cpu_times()[:2])
