# Sentinels and cluster nodes of the tests' own.
#
# Rule 1: a test decides when there is a failover, and to which server: it tells its sentinel. So it waits for nothing,
#         and knows what the new primary has. The failovers that sentinels decide on are in benchmarks/redis_failover.py.

from __future__ import annotations

from .conftest import RedisServer


class Sentinel(RedisServer):
    """A sentinel that names a server as the primary of a service, and never acts by itself."""

    def __init__(self, binary, folder):
        super().__init__(binary, folder)
        config = folder / f"sentinel-{self.port}.conf"
        config.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {folder}\nloglevel warning\n")
        self._command = [binary, str(config), "--sentinel"]
        self.url = f"sentinel://127.0.0.1:{self.port}/hub"

    def name(self, server):
        """Name this server as the primary from now on."""
        self.command("SENTINEL", "REMOVE", "hub")
        assert self.command("SENTINEL", "MONITOR", "hub", "127.0.0.1", str(server.port), "9").startswith(b"+OK")
