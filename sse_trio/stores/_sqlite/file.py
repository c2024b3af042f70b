# The database file: its schema, how it is opened, and transactions.
#
# Rule 1: WAL, so that readers and the writer don't wait for each other; synchronous=FULL, so that commits survive a
#         loss of power. With group commit FULL was measured to be as fast as NORMAL.
# Rule 2: ids come from AUTOINCREMENT's own counter, which never goes back, whatever is deleted. SQLite allows one
#         writer at a time across processes, so the order of the ids is the order of the commits.
# Rule 3: the figures of retention (numbers, bytes, ends of topics) are written in the transaction that changes them, so
#         that any snapshot decides gaps exactly.
# Rule 4: opening a database that has its schema takes no write lock. Another program may hold that lock for as long as
#         it likes, and a process that only reads must not wait for it.

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic, sleep

from .._protocol import new_epoch
from .place import OpenFiles, inode_of, make_file

__all__ = ("open_file", "transaction")

_VERSION = 1  # of the schema, in PRAGMA user_version
_BUSY_SECONDS = 10.0  # for another process' transaction; they take milliseconds
_TRIES = 3  # to open a file that is replaced meanwhile; a union file system does that when it is first opened
_PAUSE_SECONDS = 0.005  # before the next try, where SQLite doesn't wait itself

_SCHEMA = """
CREATE TABLE hub (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch TEXT NOT NULL,                    -- made with the file, so that ids of other files don't fit
    events INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    trimmed_to INTEGER NOT NULL DEFAULT 0,  -- the newest id that is gone, of any topic
    floor INTEGER NOT NULL DEFAULT 0        -- the same, of the topics without a row
);
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    time REAL NOT NULL,                     -- seconds since 1970: age has to be known across restarts
    payload BLOB NOT NULL
);
CREATE INDEX events_of_topic ON events (topic, id);
CREATE TABLE topics (
    name TEXT PRIMARY KEY,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    trimmed_to INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE keys (
    producer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    first INTEGER NOT NULL,                 -- the ids that the append was given
    count INTEGER NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (producer, sequence)
) WITHOUT ROWID;
CREATE INDEX keys_by_time ON keys (time);
"""


def open_file(path: str, mode: int) -> tuple[sqlite3.Connection, OpenFiles]:
    """Open the database, and make it if it doesn't exist. Blocks. Raises :exc:`sqlite3.Error` and :exc:`OSError`.

    The connection can be used from any thread, by one at a time.
    """
    for _ in range(_TRIES):
        make_file(path, mode)
        inode = inode_of(path)
        connection = _connect(path)
        files = OpenFiles(path)
        if files.is_of(inode):
            return connection, files
        connection.close()  # it may have opened either of the two files
    raise OSError("the file was replaced while it was being opened")


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")  # of what a WAL once grew to
        if _version_of(connection) != _VERSION:
            _make_schema(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _use_wal(connection: sqlite3.Connection) -> None:
    # A new file is not in WAL mode yet, and the switch needs exclusive access. If several processes start together,
    # SQLite sees a deadlock and refuses all but one immediately, whatever its timeout.
    until = monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as exc:
            if "locked" not in str(exc) or monotonic() >= until:
                raise
            sleep(_PAUSE_SECONDS)
        else:
            return


def _make_schema(connection: sqlite3.Connection) -> None:
    with transaction(connection, "IMMEDIATE"):  # if several processes start together, one makes it
        version = _version_of(connection)
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute("INSERT INTO hub (one, epoch) VALUES (1, ?)", (new_epoch(),))
            connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', 0)")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"its version is {version}; this release of sse_trio knows version {_VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "DEFERRED") -> Generator[None]:
    """Commit what the body did, or nothing if it raised."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors have rolled back already
            connection.execute("ROLLBACK")
        raise
