"""The servers of redis_failover.py: a primary and its replica behind a Sentinel, or a Cluster of two such pairs."""

# Rule 1: a site fails over in one of its `kinds` and returns once another server serves the hub. "lose" first cuts the
#         replica off (the primary forgets the right to replicate, and its connection is closed), so that what is
#         published then is lost for certain.
# Rule 2: sentinels and nodes decide by themselves: nobody tells them who is the primary.

from __future__ import annotations

import socket
import subprocess
import time

from _from_tests import tests
from _waiting import PATIENCE

SERVICE = "main"
HUB = "hub"  # the name of the hub that is published to


class Server:
    def __init__(self, *command, port):
        self.command, self.port, self.process = command, port, None

    def start(self, *options):
        self.process = subprocess.Popen([*self.command, *options], stdout=subprocess.DEVNULL)
        self.wait_for("PING", b"PONG")

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, line):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(line.encode() + b"\r\n")
                return connection.recv(65536)
        except OSError:
            return b""

    def must(self, line, answer=b"+OK"):
        reply = self.ask(line)
        assert reply.startswith(answer), (line, reply)

    def wait_for(self, line, answer):
        until = time.monotonic() + PATIENCE
        while answer not in self.ask(line):
            assert time.monotonic() < until, (line, self.ask(line))
            time.sleep(0.02)


def make_server(binary, folder, *options):
    folder.mkdir()
    port = tests("conftest").free_port()
    given = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--loglevel", "warning")
    return Server(binary, *given, "--repl-diskless-sync-delay", "0", *options, port=port)


class Site:
    """What both have: a primary and its replica, the `pair`, and `hand_over()`, which has them change places."""

    def prepare(self, kind):
        if kind == "lose":
            self.pair[0].must("ACL SETUSER default -psync -sync")
            self.pair[0].ask("CLIENT KILL TYPE replica")

    def fail_over(self, kind):
        if kind == "hand over":
            self.hand_over()
        else:
            self.pair[0].kill()
        self.pair.reverse()
        self.pair[0].wait_for("INFO replication", b"role:master")
        if kind == "hand over":
            self.pair[1].wait_for("INFO replication", b"role:slave")


class SentinelSite(Site):
    """Two servers, one of which is the primary, and a Sentinel."""

    kinds = ("kill", "lose", "hand over")

    def __init__(self, binary, folder):
        self.pair = [make_server(binary, folder / name) for name in ("one", "two")]
        conf, port = folder / "sentinel.conf", tests("conftest").free_port()
        self.sentinel = Server(binary, str(conf), "--sentinel", port=port)
        self.pair[0].start()
        self.pair[1].start("--replicaof", "127.0.0.1", str(self.pair[0].port))
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nloglevel warning\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.pair[0].port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 1000\n"
        )
        self.sentinel.start()
        self.url = f"sentinel://127.0.0.1:{port}/{SERVICE}"

    def wait_until_ready(self):
        self.pair[1].wait_for("INFO replication", b"master_link_status:up")
        self.sentinel.wait_for(f"SENTINEL GET-MASTER-ADDR-BY-NAME {SERVICE}", b"%d" % self.pair[0].port)
        self.sentinel.wait_for(f"SENTINEL REPLICAS {SERVICE}", b"%d" % self.pair[1].port)
        self.sentinel.wait_for(f"SENTINEL REPLICAS {SERVICE}", b"master-link-status\r\n$2\r\nok")

    def hand_over(self):
        self.sentinel.wait_for(f"SENTINEL FAILOVER {SERVICE}", b"+OK")  # it refuses for a while after another one

    def restore(self):
        if self.pair[1].process is None:
            self.pair[1].start("--replicaof", "127.0.0.1", str(self.pair[0].port))

    def stop(self):
        for server in (self.sentinel, *self.pair):
            server.kill()


class ClusterSite(Site):
    """A Cluster of two primaries with a replica each, between which the hub's slot moves, and a third that votes."""

    kinds = ("kill", "lose", "hand over", "move")

    def __init__(self, binary, folder):
        self.nodes = [self._node(binary, folder / name) for name in ("a", "a2", "b", "b2", "c")]
        for node in self.nodes:
            node.start()
        self.pair, self.others, self.third = self.nodes[:2], self.nodes[2:4], self.nodes[4]
        self.url = "cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self.slot = int(self.third.ask(f"CLUSTER KEYSLOT {{{HUB}}}")[1:])
        self._join()

    def _node(self, binary, folder):
        # 0: a replica that was cut off may take over, however old its data are.
        takeover = ("--cluster-node-timeout", "700", "--cluster-replica-validity-factor", "0")
        return make_server(binary, folder, "--cluster-enabled", "yes", *takeover)

    def _join(self):
        thirds = [range(5461), range(5461, 10923), range(10923, 16384)]
        for node, slots in zip((self.pair[0], self.others[0], self.third), thirds, strict=True):
            node.must("CLUSTER ADDSLOTS " + " ".join(map(str, slots)))
        for epoch, node in enumerate(self.nodes, 1):
            node.must(f"CLUSTER SET-CONFIG-EPOCH {epoch}")
        for node in self.nodes[1:]:
            self.nodes[0].must(f"CLUSTER MEET 127.0.0.1 {node.port}")
        for node in self.nodes:
            node.wait_for("CLUSTER INFO", b"cluster_known_nodes:5")
            node.wait_for("CLUSTER INFO", b"cluster_state:ok")
        for primary, replica in (self.pair, self.others):
            replica.wait_for(f"CLUSTER REPLICATE {self._name(primary)}", b"+OK")
        while self._owner() is not self.pair[0]:
            self.pair, self.others = self.others, self.pair
            if self._owner() is self.third:
                self._move(self.third, self.pair[0])

    def _name(self, node):
        return node.ask("CLUSTER MYID").split(b"\r\n")[1].decode()

    def _owner(self):
        for node in self.nodes:
            for line in node.ask("CLUSTER NODES").decode().splitlines():
                if "myself,master" in line and self._has(line.split()[8:]):
                    return node
        return None

    def _has(self, ranges):
        bounds = [part.partition("-") for part in ranges if part[0] != "["]
        return any(int(first) <= self.slot <= int(last or first) for first, _, last in bounds)

    def wait_until_ready(self):
        for primary, replica in (self.pair, self.others):
            replica.wait_for("INFO replication", b"master_link_status:up")
            primary.wait_for("INFO replication", b"connected_slaves:1")
        for node in self.nodes:
            node.wait_for("CLUSTER INFO", b"cluster_state:ok")

    def hand_over(self):
        self.pair[1].wait_for("CLUSTER FAILOVER", b"+OK")

    def fail_over(self, kind):
        if kind != "move":
            super().fail_over(kind)
            return
        self._move(self.pair[0], self.others[0])
        self.pair, self.others = self.others, self.pair

    def _move(self, source, target):
        source_name, target_name = self._name(source), self._name(target)
        target.must(f"CLUSTER SETSLOT {self.slot} IMPORTING {source_name}")
        source.must(f"CLUSTER SETSLOT {self.slot} MIGRATING {target_name}")
        while keys := source.ask(f"CLUSTER GETKEYSINSLOT {self.slot} 1").split(b"\r\n")[2:3]:
            source.must(f'MIGRATE 127.0.0.1 {target.port} "" 0 5000 KEYS {keys[0].decode()}')
            time.sleep(0.02)  # so that commands find some of the keys here, and some there
        for node in (target, source, self.third):
            node.must(f"CLUSTER SETSLOT {self.slot} NODE {target_name}")

    def restore(self):
        for node in self.nodes:
            if node.process is None:
                node.start()  # it finds out that another has its slots, and becomes its replica

    def stop(self):
        for node in self.nodes:
            node.kill()
