# Sentinels and cluster nodes of the tests' own, and functions for credentials that say nothing.
#
# Rule 1: a test decides when there is a failover, and to which server: it tells its sentinel. So it waits for nothing,
#         and knows what the new primary has. benchmarks/redis_failover.py has failovers that sentinels decide on.

from __future__ import annotations

import time

from .conftest import RedisServer


def wait_until(condition):
    """Return once this is true."""
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it does not come true"
        time.sleep(0.005)


class Sentinel(RedisServer):
    """A sentinel that names the primary of the service `hub`, as it is told, and never acts by itself."""

    def __init__(self, binary, folder):
        super().__init__(binary, folder)
        config = folder / f"sentinel-{self.port}.conf"
        config.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {folder}\nloglevel warning\n")
        self._command = [binary, str(config), "--sentinel"]
        self.url = f"sentinel://127.0.0.1:{self.port}/hub"

    def name(self, server):
        """Name this server from now on."""
        self.command("SENTINEL", "REMOVE", "hub")
        assert self.command("SENTINEL", "MONITOR", "hub", "127.0.0.1", str(server.port), "9").startswith(b"+OK")


class Pair:
    """A primary, its replica, and a sentinel that names the primary."""

    def __init__(self, primary, replica, sentinel):
        self.primary, self.replica, self.sentinel = primary, replica, sentinel
        self.url = sentinel.url
        replica.command("REPLICAOF", "127.0.0.1", str(primary.port))
        wait_until(lambda: b"master_link_status:up" in replica.command("INFO", "replication"))
        sentinel.name(primary)

    def wait_replicated(self, sequence, hub="h"):
        """Return once the replica has the hub's event of this number."""
        found = f"\r\n{sequence}\r\n".encode()
        wait_until(lambda: found in self.replica.command("HGET", f"{{{hub}}}:meta", "seq"))

    def part(self):
        """Have the replica miss what comes, as one that lags."""
        self.replica.command("REPLICAOF", "NO", "ONE")

    def fail_over(self, *, kill=True):
        """Make the replica the primary."""
        self.part()
        if kill:
            self.primary.kill()
        self.sentinel.name(self.replica)


def make_cluster(nodes):
    """Make a cluster of these nodes, all slots of which are the first one's."""
    first = nodes[0]
    for start in range(0, 16384, 4096):
        first.command("CLUSTER", "ADDSLOTS", *map(str, range(start, start + 4096)))
    for node in nodes[1:]:
        first.command("CLUSTER", "MEET", "127.0.0.1", str(node.port))
    wait_until(lambda: all(b"cluster_state:ok" in node.command("CLUSTER", "INFO") for node in nodes))
    wait_until(lambda: all(node.command("CLUSTER", "NODES").count(b" connected") >= len(nodes) for node in nodes))


def words_of(reply):
    """Return the strings of a reply that is a flat array."""
    return [line.decode() for line in reply.split(b"\r\n") if line and line[:1] not in b"*$:"]


class SlotMove:
    """The slot of a key, on its way from one node to another, as an operator moves it: key by key."""

    def __init__(self, key, source, target):
        self.source, self.target = source, target
        self.slot = source.command("CLUSTER", "KEYSLOT", key)[1:-2].decode()
        self.names = {node: words_of(node.command("CLUSTER", "MYID"))[0] for node in (source, target)}
        target.command("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.names[source])
        source.command("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.names[target])

    def keys(self):
        """Return the keys that are still on the source."""
        return words_of(self.source.command("CLUSTER", "GETKEYSINSLOT", self.slot, "1000"))

    def move_keys(self, *keys):
        """Move these keys."""
        answer = self.source.command("MIGRATE", "127.0.0.1", str(self.target.port), '""', "0", "5000", "KEYS", *keys)
        assert answer == b"+OK\r\n"

    def finish(self):
        """Give the slot to the target."""
        for node in (self.target, self.source):
            node.command("CLUSTER", "SETSLOT", self.slot, "NODE", self.names[self.target])


def move_slot(key, source, target):
    """Move the slot of this key from one node to another."""
    move = SlotMove(key, source, target)
    move.move_keys(*move.keys())
    move.finish()


def refusing():
    raise OSError("no token now")


BAD_CREDENTIALS = [
    (refusing, r"\(\) raised OSError\('no token now'\); have it return a user, or None .*; each new try asks it again"),
    (
        lambda: "secret",
        r"\(\) returned an object of type str; have it return a user, or None .*: return None",
    ),
    (lambda: ("app", None), r"\(\) returned a tuple of \['str', 'NoneType'\]; have it return"),
    (lambda: (b"app", "secret"), r"\(\) returned a tuple of \['bytes', 'str'\]; have it return"),
    (lambda: ["secret"], r"\(\) returned a list of \['str'\]; have it return"),
]
"""Functions that say nothing of who logs in, and what the error says of each."""
