# PostgreSQL servers of the tests' own. Pairs of them are in _postgres_pair.py, poolers in _pgbouncer.py.
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

import anyio

from sse_trio.stores import EventId


def find_postgres():
    """Return the folder of PostgreSQL's programs, or None: as the environment says, on the PATH, or Debian's newest."""
    named = os.environ.get("SSE_TRIO_POSTGRES_BIN")
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if named or found or debian:
        return Path(named) if named else Path(found or debian[-1]).resolve().parent
    return None


def other_user():
    """Return what starts a process as somebody else where we are root."""
    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if os.getuid() == 0 else {}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def url_through(ports):
    """Return the URL of whichever of these can be written to."""
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"


class PostgresServer:
    """A server that can be stopped, crash and be started again on the same port and files."""

    def __init__(self, programs, *settings, port=None, place=None):
        self.programs = programs
        self._settings = settings
        self._user = other_user()
        self._folder = Path(tempfile.mkdtemp(prefix="sse-trio-pg-", dir=place))
        if self._user:
            shutil.chown(self._folder, **self._user)
        self.port = port or free_port()
        self._process = None
        self._make_files()

    def _make_files(self):
        command = ["initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run(*command)

    def _run(self, program, *arguments):
        done = subprocess.run(  # noqa: PLW1510 -- the check below says what went wrong
            [self.programs / program, *arguments], cwd=self._folder, capture_output=True, text=True, **self._user
        )
        assert done.returncode == 0, done.stderr

    @property
    def url(self):
        return self.url_of("postgres")

    def url_with(self, other):
        """Return where the primary is, whichever of the two it is."""
        return url_through([self.port, other.port])

    def url_of(self, user, database="postgres"):
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self):
        """Start it, and return once it answers."""
        command = [
            self.programs / "postgres", "-D", "data", "-h", "127.0.0.1", "-k", str(self._folder), "-p", str(self.port),
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

    def has_ended(self):
        return self._process.poll() is not None

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


class PostgresReplica(PostgresServer):
    """A standby of another server, which must run: it streams from it, until it is promoted."""

    def __init__(self, primary, *settings, port=None, place=None):
        self._primary = primary
        super().__init__(primary.programs, "wal_retrieve_retry_interval=200ms", *settings, port=port, place=place)

    def _make_files(self):
        primary = f"host=127.0.0.1 port={self._primary.port} user=postgres application_name=replica"
        self._run("pg_basebackup", "-D", "data", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", primary)

    def fall_behind(self):
        """Let it receive no more, as if the network were slow."""
        self.sql("ALTER SYSTEM SET primary_conninfo = ''")
        self.sql("SELECT pg_reload_conf()")
        until = time.monotonic() + 30
        while self.sql("SELECT 1 FROM pg_stat_wal_receiver WHERE pid IS NOT NULL"):
            assert time.monotonic() < until, "the standby receives still"
            time.sleep(0.01)

    def promote(self):
        """Make it the primary, and return once it is."""
        self._run("pg_ctl", "promote", "-D", "data", "-w")


async def follow_by_looking(store, is_done):
    """Publish until this is true of the sequences that a follower has found. Return them, and its connections."""
    found, followers, connections = [], [], []
    new_follower = store._new_follower

    def note_follower():
        followers.append(new_follower())
        return followers[-1]

    async def publish():
        while not is_done(found):
            await store.append([("a", b"")])
            await anyio.sleep(0.03)
        group.cancel_scope.cancel()

    store._new_follower = note_follower
    async with store:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(publish)
                async with store.follow(EventId(store.epoch, 0)) as pages:
                    async for page in pages:
                        found += [event.id.sequence for event in page.events]
                        if followers[0]._listening not in connections:
                            connections.append(followers[0]._listening)
    return found, connections
