# A PostgreSQL server of the tests' own.
#
# Rule 1: nothing is shared with the machine: a free port, a folder in the system's folder for them, and only processes
#         that were started here.
# Rule 2: PostgreSQL refuses to run as root. Where the tests do (in containers), it runs as nobody.

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def find_postgres():
    """Return the folder of PostgreSQL's programs, or None: as the environment says, on the PATH, or Debian's newest."""
    named = os.environ.get("SSE_TRIO_POSTGRES_BIN")
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if named or found or debian:
        return Path(named) if named else Path(found or debian[-1]).resolve().parent
    return None


class PostgresServer:
    """A server that can be stopped, crash and be started again on the same port and files."""

    def __init__(self, programs, *settings):
        self._programs = programs
        self._settings = settings
        self._user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if os.getuid() == 0 else {}
        self._folder = Path(tempfile.mkdtemp(prefix="sse-trio-pg-"))
        if self._user:
            shutil.chown(self._folder, **self._user)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._process = None
        command = ["initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run(*command)

    def _run(self, program, *arguments):
        done = subprocess.run(  # noqa: PLW1510 -- the check below says what went wrong
            [self._programs / program, *arguments], cwd=self._folder, capture_output=True, text=True, **self._user
        )
        assert done.returncode == 0, done.stderr

    @property
    def url(self):
        return self.url_of("postgres")

    def url_of(self, user, database="postgres"):
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self):
        """Start it, and return once it answers."""
        command = [
            self._programs / "postgres", "-D", "data", "-h", "127.0.0.1", "-k", str(self._folder), "-p", str(self.port),
            # A process that crashes loses nothing for want of fsync; only a machine does.
            "-c", "fsync=off", "-c", "max_connections=60", "-c", "shared_buffers=16MB", "-c", "log_min_messages=fatal",
        ]  # fmt: skip
        for setting in self._settings:
            command += ["-c", setting]
        self._process = subprocess.Popen(
            command, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._user
        )
        until = time.monotonic() + 30
        while not self.answers():
            assert self._process.poll() is None, "postgres ended at once"
            assert time.monotonic() < until, "postgres doesn't answer"
            time.sleep(0.02)

    def answers(self):
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    def sql(self, statement, *values, user="postgres"):
        """Execute one statement, and return the rows, if it has any."""
        import psycopg

        with psycopg.connect(self.url_of(user), autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def stop(self, how=signal.SIGINT):
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def crash(self):
        """End it at once: the next start has to recover what was committed."""
        self.stop(signal.SIGQUIT)

    def restart(self, how=signal.SIGINT):
        self.stop(how)
        self.start()

    def remove(self):
        self.crash()
        shutil.rmtree(self._folder, ignore_errors=True)
