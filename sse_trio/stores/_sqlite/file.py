# The database file: its schema, how it is opened, and transactions.
#
# Rule 1: WAL, so that readers and the writer don't wait for each other; synchronous=FULL, so that what was committed
#         survives a loss of power. With group commit FULL was measured to be no slower than NORMAL.
# Rule 2: ids come from AUTOINCREMENT's own counter, which never goes back, whatever is deleted. One writer at a time,
#         which SQLite sees to across processes, makes the order of the ids the order of the commits.
# Rule 3: what retention has to know (numbers, bytes, where topics are trimmed to) is written in the transaction that
#         changes it. Whoever reads a snapshot can decide gaps by it exactly.
# Rule 4: opening a database that has its schema takes no write lock: another program may hold it, for as long as it
#         likes, and whoever only reads has nothing to wait for.

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic, sleep

from .._protocol import new_epoch
from .place import Place, inode_of, make_file

__all__ = ("open_file", "transaction")

_VERSION = 1  # of the schema, in PRAGMA user_version
_BUSY_SECONDS = 10.0  # for another process' transaction; they take milliseconds
_TRIES = 3  # to open a file that is replaced meanwhile; a union file system does that when it is first opened
_PAUSE_SECONDS = 0.005  # until the file is tried again, where SQLite doesn't wait by itself

_SCHEMA = """
CREATE TABLE hub (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch TEXT NOT NULL,                    -- made with the file, so that another file's ids are foreign here
    events INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    trimmed_to INTEGER NOT NULL DEFAULT 0,  -- the newest id that is gone, of whatever topic
    floor INTEGER NOT NULL DEFAULT 0        -- the same, of the topics that have no row any more
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


def open_file(path: str, mode: int) -> tuple[sqlite3.Connection, Place]:
    """Open the database, and make it if there is none. Blocks. Raises :exc:`sqlite3.Error` and :exc:`OSError`.

    The connection can be used from any thread, by one at a time.
    """
    for _ in range(_TRIES):
        make_file(path, mode)
        inode = inode_of(path)
        connection = _connect(path)
        place = Place(path)
        if place.is_of(inode):
            return connection, place
        connection.close()  # which of the two it has opened nobody knows
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
    # A new file is not in WAL mode yet. Of processes that start at once each wants it alone for that; SQLite takes it
    # for a deadlock and refuses all but one at once, whatever its timeout is.
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
    with transaction(connection, "IMMEDIATE"):  # of several processes that start at once, one makes it
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
    """Commit what the body did, or, if it raised, nothing of it."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors have rolled back already
            connection.execute("ROLLBACK")
        raise
