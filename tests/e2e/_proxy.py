# A proxy that cuts the connection to a client again and again, at whatever byte of an event comes up.
#
# Rule 1: it cuts by bytes, not by time: the same seed gives the same cuts, however fast the machine is.
# Rule 2: it runs on a thread with plain sockets, so that no event loop under test can influence it.

from __future__ import annotations

import random
import selectors
import socket
import struct
import threading

Pair = tuple[socket.socket, socket.socket]  # a client's connection and the one to the server


class CuttingProxy:
    """Passes bytes between clients and a server on this machine; after :meth:`start_cutting` not for long.

    Every second cut is a reset, as of a router that has forgotten the connection: what the client hasn't read yet is
    lost. The others are an orderly end of the connection in the middle of the body. In the middle of the head a cut is
    always a reset: a browser takes a head that ends like that for a whole one, of another type than it wants.
    """

    def __init__(self, server_port: int, *, seed: int, mean: int) -> None:
        self.cuts = 0
        self._server_port = server_port
        self._chance = random.Random(seed)
        self._mean = mean  # bytes between two cuts
        self._left = 0
        self._cuts_left = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port = self._listener.getsockname()[1]
        self._end, self._ear = socket.socketpair()
        self._pairs: set[Pair] = set()
        self._past_head: set[Pair] = set()
        self._thread = threading.Thread(target=self._run, name="cutting proxy")

    def __enter__(self) -> CuttingProxy:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.close()
        self._thread.join()
        self._ear.close()

    def start_cutting(self, times: int) -> None:
        """Cut this many times from now on, and then no more."""
        self._left = self._next_distance()
        self._cuts_left = times

    def _next_distance(self) -> int:
        return self._chance.randint(1, 2 * self._mean)

    def _run(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)
        with self._selector, self._listener:
            while True:
                for key, _ in self._selector.select():
                    if key.fileobj is self._ear:
                        for pair in list(self._pairs):
                            self._drop(pair)
                        return
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.data in self._pairs:
                        self._pass(key.fileobj, key.data)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._server_port), timeout=10)
        pair = (client, server)
        self._pairs.add(pair)
        for end in pair:
            self._selector.register(end, selectors.EVENT_READ, pair)

    def _pass(self, source: socket.socket, pair: Pair) -> None:
        client, server = pair
        try:
            data = source.recv(65_536)
            if source is client:
                self._past_head.discard(pair)
                server.sendall(data)
            else:
                data = data[: self._left] if self._cuts_left else data
                client.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(pair)
        elif source is server:
            self._count(data, pair)

    def _count(self, data: bytes, pair: Pair) -> None:
        if b"\r\n\r\n" in data:
            self._past_head.add(pair)
        if self._cuts_left:
            self._left -= len(data)
            if self._left == 0:
                self._cut(pair)

    def _cut(self, pair: Pair) -> None:
        self._drop(pair, reset=self.cuts % 2 == 0 or pair not in self._past_head)
        self.cuts += 1
        self._cuts_left -= 1
        self._left = self._next_distance()

    def _drop(self, pair: Pair, *, reset: bool = False) -> None:
        self._pairs.remove(pair)
        self._past_head.discard(pair)
        for end in pair:
            self._selector.unregister(end)
        if reset:
            pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for end in pair:
            end.close()
