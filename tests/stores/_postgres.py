# PostgreSQL servers and poolers of the tests' own.
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


def find_pgbouncer():
    """Return the pooler's program, or None. Debian keeps it where a user's PATH may not look."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def other_user():
    """Return what starts a process as somebody else where we are root."""
    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if os.getuid() == 0 else {}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


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
        hosts = f"127.0.0.1:{self.port},127.0.0.1:{other.port}"
        return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

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

    def __init__(self, primary, *settings, port=None):
        self._primary = primary
        super().__init__(primary.programs, "wal_retrieve_retry_interval=200ms", *settings, port=port)

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


class PostgresPair:
    """A primary and a synchronous standby, which takes over when the primary crashes; another one is made then."""

    def __init__(self, programs):
        self._primary = PostgresServer(programs)
        self._standby = None
        self.ports = (self._primary.port, free_port())

    @property
    def url(self):
        """Where the primary is, whichever it is."""
        return self.url_through(self.ports)

    def url_through(self, ports):
        """The same, through proxies."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

    def start(self):
        self._primary.start()
        if self._standby is None:
            self._begin_to_replicate()

    def _begin_to_replicate(self):
        self.sql("ALTER SYSTEM SET synchronous_standby_names = 'replica'")  # each standby is made with it
        self._make_standby()
        self.sql("SELECT pg_reload_conf()")
        self._wait_in_sync()

    def _make_standby(self):
        (port,) = {*self.ports} - {self._primary.port}
        self._standby = PostgresReplica(self._primary, port=port)
        self._standby.start()

    def _wait_in_sync(self):
        until = time.monotonic() + 60
        while not self.sql("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'"):
            assert time.monotonic() < until, "the standby doesn't catch up"
            time.sleep(0.02)

    def fail_over(self):
        """Promote only what is in sync, as those who watch over servers do."""
        self._wait_in_sync()
        self._primary.remove()
        self._primary, self._standby = self._standby, None
        self._primary.promote()
        self._make_standby()
        self._wait_in_sync()

    def sql(self, statement, *values):
        return self._primary.sql(statement, *values)

    def crash(self):
        self._primary.crash()

    def restart(self):
        self._primary.restart()

    def remove(self):
        self._primary.remove()
        if self._standby is not None:
            self._standby.remove()


class PgBouncer:
    """A pooler in transaction mode, in front of a server: each transaction may get another server process."""

    def __init__(self, program, server):
        self._user = other_user()
        self._folder = Path(tempfile.mkdtemp(prefix="sse-trio-pgbouncer-"))
        self.port = free_port()
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\npostgres = host=127.0.0.1 port={server.port} user=postgres\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            "server_login_retry = 1\n"  # seconds; by default it tells nobody for 15 that a server is back
            "pool_mode = transaction\nserver_round_robin = 1\n"  # or a client would often get the same one again
        )
        if self._user:
            for path in (self._folder, settings):
                shutil.chown(path, **self._user)
        self._process = subprocess.Popen(
            [program, settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._user
        )
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._wait_until_it_listens()

    def _wait_until_it_listens(self):
        until = time.monotonic() + 30
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 5).close()
            except OSError:
                assert self._process.poll() is None, "pgbouncer ended at once"
                assert time.monotonic() < until, "pgbouncer doesn't listen"
                time.sleep(0.02)

    def remove(self):
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


async def follow_by_looking(store, is_done):
    """Publish until this is true of the sequences that a follower has found, and return them."""
    found = []

    async def publish():
        while not is_done(found):
            await store.append([("a", b"")])
            await anyio.sleep(0.03)
        group.cancel_scope.cancel()

    async with store:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(publish)
                async with store.follow(EventId(store.epoch, 0)) as pages:
                    async for page in pages:
                        found += [event.id.sequence for event in page.events]
    return found
