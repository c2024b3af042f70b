# Connections to the server: made by psycopg's synchronous side, used in threads, replaced after any error.
#
# Rule 1: psycopg's asynchronous connections need asyncio. A synchronous one in a thread runs beside every loop.
# Rule 2: every wait has a limit. A server that is stopped, or a network that drops everything, is noticed when no
#         answer has come in time, although the operating system would wait for hours.
# Rule 3: after an error a connection is closed, which ends its transaction. So no statement of ours undoes anything,
#         and no connection has to be brought back into order.
# Rule 4: settings are those of a transaction, never of a session. So a pooler that gives each transaction to another
#         server process (pgbouncer's transaction mode) does no harm, except to LISTEN.
# Rule 5: behind a pooler no statement is prepared. The next transaction may go to a server process that does not know
#         it, or that knows another client's by the same name. A pooler is recognized by the number of the server
#         process, for which it gives its own.
# Rule 6: behind a pooler each transaction looks whether it is still on the server that the connection looked at when
#         it was made, by its timeline. So a connection belongs to one server, however the pooler is pointed elsewhere.
# Rule 7: which server of several is the primary is asked in SQL (hosts.py).
# Rule 8: no message quotes the conninfo, which may have a password in it (conninfo.py).

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar, cast, final

import psycopg
from psycopg import Connection, Cursor, InterfaceError, OperationalError, Pipeline
from psycopg.abc import PQGen
from psycopg.errors import FeatureNotSupported, IdleInTransactionSessionTimeout
from psycopg.rows import TupleRow

from .conninfo import name_of, parse_conninfo
from .hosts import each_host, first_of
from .names import check_schema

__all__ = ("FAILURES", "PostgresConnection", "PostgresServer", "is_transient", "pipeline", "transaction")

FAILURES = (psycopg.Error, OSError)
"""What the server, the network and the driver raise."""

_END = "SELECT pg_backend_pid(), pg_is_in_recovery()"
_TIMELINE = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"

_T = TypeVar("_T")


def is_transient(exc: BaseException | None) -> bool:
    """Whether it makes sense to try again: the connection failed, and not what was asked."""
    return isinstance(exc, (OperationalError, InterfaceError, IdleInTransactionSessionTimeout, OSError))


class PostgresConnection(Connection[TupleRow]):
    """A connection on which no answer is waited for longer than ``reply_within`` seconds."""

    reply_within: float = 10.0
    is_pooled: bool = False
    timeline: int | None = None
    """Of the server; None, as some who sell PostgreSQL as a service have taken it out."""

    def run(self, sql: str, values: Sequence[object] | None = None) -> Cursor[TupleRow]:
        """Execute SQL of ours. Without values it may be several statements."""
        return self.execute(sql.encode(), values)

    def look(self) -> None:
        """Look what is at the other end: a pooler or the server itself, its timeline, whether one can write."""
        pid, is_standby = cast("tuple[int, bool]", self.run(_END).fetchone())
        if is_standby:
            raise OperationalError("it is a standby; name all servers, with commas in between")
        if pid != self.info.backend_pid:
            self.is_pooled = True
            self.prepare_threshold = None
        try:
            self.timeline = _timeline_in(self.run(_TIMELINE))
        except psycopg.Error as exc:
            if is_transient(exc):
                raise

    def begin(self, sql: str) -> None:
        """Begin a transaction, on the server that was looked at."""
        may_differ = self.is_pooled and self.timeline is not None
        try:
            found = self.run(f"{sql}; {_TIMELINE}" if may_differ else sql)
        except FeatureNotSupported as exc:  # to begin one that writes
            raise OperationalError("the pooler has led to a standby") from exc
        while found.nextset():
            pass
        if may_differ and _timeline_in(found) != self.timeline:
            raise OperationalError("the pooler has led to another server than before")

    def wait(self, gen: PQGen[_T], *args: Any, **options: Any) -> _T:
        """See psycopg. Whatever waits for the server comes through here."""
        return super().wait(_bounded(gen, self.reply_within, self.close), *args, **options)


def _timeline_in(found: Cursor[TupleRow]) -> int:
    return cast("tuple[int]", found.fetchone())[0]


def _bounded(gen: PQGen[_T], seconds: float, close: Callable[[], None]) -> PQGen[_T]:
    """Let a generator of psycopg's wait no longer. It is resumed several times a second while nothing is ready."""
    until = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > until:
                close()  # whatever is sent after it would wait for this answer
                raise OperationalError(f"the server has not answered within {seconds:g} s")
            wanted = gen.send(ready)
    except StopIteration as end:
        return cast("_T", end.value)


@final
class PostgresServer:
    """Where the server is, and how to talk to it.

    Args:
        conninfo: a URL or a string of libpq's.
        schema: of our tables.
        reply_within: seconds to wait for a connection, for an answer, and for a lock.
        argument: the name of the argument that ``conninfo`` was given as.
    """

    def __init__(self, conninfo: str, *, schema: str, reply_within: float, argument: str = "conninfo") -> None:
        self._conninfo = parse_conninfo(conninfo, argument)
        self.schema = check_schema(schema)
        self.reply_within = reply_within
        self.name = name_of(self._conninfo)
        path = f"SET LOCAL search_path = {self.schema}, pg_temp"
        wait = f"{max(1, round(reply_within * 1000))}"
        self.begin_read = f"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {path}"
        self.begin_write = (
            f"BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE; {path}; SET LOCAL lock_timeout = {wait}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {wait}"  # or a machine that is gone would keep its lock
        )

    def connect(self) -> PostgresConnection:
        """Return a new connection to the primary, in autocommit mode."""
        return first_of(each_host(self._conninfo), self._connect_to)

    def _connect_to(self, conninfo: dict[str, Any]) -> PostgresConnection:
        options: dict[str, Any] = {
            "connect_timeout": max(2, round(self.reply_within)),
            "application_name": "sse_trio",
            "tcp_user_timeout": round(self.reply_within * 1000),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            **conninfo,
        }
        connection = PostgresConnection.connect(**options, autocommit=True)
        # A little more than the server waits for a lock, so that the server's answer comes first.
        connection.reply_within = self.reply_within + min(1.0, self.reply_within)
        try:
            connection.look()
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def transaction(connection: PostgresConnection, begin: str) -> Generator[None]:
    """Commit what the body did. If it raises, close the connection: nothing was done."""
    try:
        connection.begin(begin)
        yield
        connection.run("COMMIT")
    except BaseException:
        connection.close()
        raise


def pipeline(connection: PostgresConnection) -> AbstractContextManager[object]:
    """Send what the body executes at once, and look at the outcome when it ends; old libpqs do one after another."""
    return connection.pipeline() if Pipeline.is_supported() else nullcontext()
