# pgbouncer in transaction mode, in front of a server of the tests' own: each transaction may get another connection.
#
# Rule 1: it is pointed at another server as people do it after a failover: its configuration is written anew, and it
#         is told to read it. Connections to the old server end with their transactions.

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from ._postgres import free_port, other_user


def find_pgbouncer():
    """Return the pooler's program, or None. Debian keeps it where a user's PATH may not look."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


class PgBouncer:
    """A pooler in front of the server at a port, that can be killed, started again, and pointed at another server."""

    def __init__(self, program, server_port):
        self._program = program
        self._user = other_user()
        self._folder = Path(tempfile.mkdtemp(prefix="sse-trio-pgbouncer-"))
        self._settings = self._folder / "pgbouncer.ini"
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._write_settings(server_port)
        if self._user:
            for path in (self._folder, self._settings):
                shutil.chown(path, **self._user)
        self.start()

    def _write_settings(self, server_port):
        self._settings.write_text(
            f"[databases]\npostgres = host=127.0.0.1 port={server_port} user=postgres\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            "server_login_retry = 1\n"  # seconds; by default it tells nobody for 15 that a server is back
            "pool_mode = transaction\nserver_round_robin = 1\n"  # or a client would often get the same one again
        )

    def start(self):
        """Start it, and return once it listens."""
        command = [self._program, self._settings]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._user)
        until = time.monotonic() + 30
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 5).close()
            except OSError:
                assert self._process.poll() is None, "pgbouncer ended at once"
                assert time.monotonic() < until, "pgbouncer doesn't listen"
                time.sleep(0.02)

    def kill(self):
        """End it as a crash does."""
        self._process.kill()
        self._process.wait()

    def point_at(self, server_port):
        """Send what comes next to another server."""
        self._write_settings(server_port)
        self._process.send_signal(signal.SIGHUP)

    def remove(self):
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
