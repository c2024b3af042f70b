# The servers of a run of faults, and the ways to them, each behind proxies that do what networks do:
#
#   direct     the server itself, or two of them by a URL with both
#   pointed    one pgbouncer, which is pointed at the new primary after a failover; followers connect directly
#   beside     a pgbouncer beside each server, by a URL with both
#
# Rule 1: servers, poolers and proxies are those of the tests.
# Rule 2: each server has a disk of its own, so that a full one hits one server.

from __future__ import annotations

import argparse
import contextlib
import subprocess
import tempfile
import time
from pathlib import Path

from _from_tests import tests

DISK = "300m"


@contextlib.contextmanager
def small_disk():
    """Mount a small disk in memory. A full one has to be emptied again."""
    with tempfile.TemporaryDirectory(prefix="sse-trio-disk-") as place:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=1777", "tmpfs", place], check=True)
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)


class Site:
    """A server or a pair of them, with what is in front.

    Args:
        server: a ``PostgresServer``, or a ``PostgresPair``.
        with_poolers: whether some ways lead through pgbouncer.
    """

    def __init__(self, server, *, with_poolers):
        self.server = server
        self.is_pair = hasattr(server, "ports")
        self._proxies_by_way, self._poolers, self._pointed = {}, [], None
        self._add("direct", server.ports if self.is_pair else [server.port])
        if with_poolers:
            self._pointed = self._make_pooler(server.port)
            self._add("pointed", [self._pointed.port])
        if with_poolers and self.is_pair:
            self._add("beside", [self._make_pooler(port).port for port in server.ports])

    def _add(self, way, ports):
        make = tests("conftest").FaultProxy
        self._proxies_by_way[way] = [make(argparse.Namespace(port=port)) for port in ports]

    def _make_pooler(self, port):
        module = tests("_pgbouncer")
        self._poolers.append(module.PgBouncer(module.find_pgbouncer(), port))
        return self._poolers[-1]

    @property
    def ways(self):
        """What to make a store with, for each way."""
        urls = {
            way: tests("_postgres").url_through([proxy.url.rpartition(":")[2] for proxy in proxies])
            for way, proxies in self._proxies_by_way.items()
        }
        listens = {"pointed": urls["direct"]}
        return [{"conninfo": url, "listen_conninfo": listens.get(way)} for way, url in urls.items()]

    @property
    def proxies(self):
        return [proxy for proxies in self._proxies_by_way.values() for proxy in proxies]

    def fail_over(self):
        """Lose the primary, and point the pooler at the one that takes over."""
        self.server.wait_in_sync()
        self.lose_primary()
        self.server.make_standby()

    def lose_primary(self):
        """End the primary for good, promote the standby, and point the pooler at it."""
        self.server.lose_primary()
        if self._pointed is not None:
            self._pointed.point_at(self.server.port)

    def kill_pooler(self, chance):
        """Kill one of the poolers, and start it again."""
        pooler = chance.choice(self._poolers)
        pooler.kill()
        time.sleep(chance.uniform(0, 0.2))
        pooler.start()

    def fill_disk(self, seconds):
        """Leave no block free on the primary's disk. A server that can't write its log ends, and is started again."""
        ballast = self.server.place / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
        time.sleep(seconds)
        ballast.unlink(missing_ok=True)
        while not self.server.answers():  # it recovers, or has given up
            if self.server.has_ended():
                self.server.start()
            time.sleep(0.05)

    def remove(self):
        for proxy in self.proxies:
            proxy.close()
        for pooler in self._poolers:
            pooler.remove()


@contextlib.contextmanager
def open_site(*, replica, disk_full, pooler, is_synchronous=True):
    """Start servers, on small disks if those are to be full, and what is in front of them."""
    programs = tests("_postgres").find_postgres()
    settings = ("max_wal_size=32MB", "min_wal_size=32MB") if disk_full else ()
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(small_disk()) if disk_full else None for _ in range(2)]
        if replica:
            server = tests("_postgres_pair").PostgresPair(
                programs, *settings, places=places, is_synchronous=is_synchronous
            )
        else:
            server = tests("_postgres").PostgresServer(programs, *settings, place=places[0])
            server.place = places[0]
        stack.callback(server.remove)
        server.start()
        site = Site(server, with_poolers=pooler)
        stack.callback(site.remove)
        yield site
