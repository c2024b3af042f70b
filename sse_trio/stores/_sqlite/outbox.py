# What users have published in transactions of their own, in the same file, and that is not in the log yet.
#
# Rule 1: the table is made by whoever needs it first, because older files don't have it.
# Rule 2: SQLite has one writer at a time, so rows come in the order of the commits, and those of one commit together.
# Rule 3: a driver is known by the package of the connection's class, so none of them is imported that is not in use.

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeAlias

from ..._arguments.checks import wrong
from .._append import Append

__all__ = ("has_waiting", "make_outbox", "publish_on", "take_waiting")

_TABLE = """CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    producer TEXT,
    sequence INTEGER
)"""
_INSERT = "INSERT INTO outbox (topic, payload, producer, sequence) VALUES ({}, {}, {}, {})"
_NAMES = ("topic", "payload", "producer", "sequence")

_Values: TypeAlias = tuple[str, bytes, "str | None", "int | None"]
_Execute: TypeAlias = "Callable[[Any, str, _Values | None], object]"


def make_outbox(connection: sqlite3.Connection) -> None:
    """Make the table, unless there is one."""
    connection.execute(_TABLE)


def has_waiting(connection: sqlite3.Connection) -> bool:
    """Whether anything waits."""
    if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'outbox'").fetchone() == (0,):
        return False
    return connection.execute("SELECT 1 FROM outbox LIMIT 1").fetchone() is not None


def take_waiting(connection: sqlite3.Connection) -> list[Append]:
    """Take what waits out of the outbox, within a transaction that writes."""
    query = "SELECT topic, payload, producer, sequence FROM outbox ORDER BY id"
    rows: list[tuple[str, bytes, str | None, int | None]] = connection.execute(query).fetchall()
    if rows:
        connection.execute("DELETE FROM outbox")
    return [
        Append([(topic, payload)], None if producer is None or sequence is None else (producer, sequence))
        for topic, payload, producer, sequence in rows
    ]


def publish_on(connection: object, item: tuple[str, bytes], key: tuple[str, int] | None) -> Awaitable[None] | None:
    """Add an event to the outbox. TypeError for a connection of no driver that is known."""
    execute = _driver_of(connection)
    made = execute(connection, _TABLE, None)
    producer, sequence = (None, None) if key is None else key
    values = (*item, producer, sequence)
    if isawaitable(made):
        return _finish(made, lambda: execute(connection, _INSERT, values))
    execute(connection, _INSERT, values)
    return None


def _driver_of(connection: object) -> _Execute:
    packages = {kind.__module__.partition(".")[0] for kind in type(connection).__mro__}
    for package, execute in (("aiosqlite", _plain), ("sqlite3", _plain), ("sqlalchemy", _text), ("django", _by_cursor)):
        if package in packages:
            return execute
    raise wrong(TypeError, "connection", "a connection of sqlite3, aiosqlite, SQLAlchemy or Django", connection)


async def _finish(made: Awaitable[object], insert: Callable[[], Any]) -> None:
    await made
    await insert()


def _plain(connection: Any, statement: str, values: _Values | None) -> object:
    return connection.execute(statement.format(*"????"), values or ())


def _by_cursor(connection: Any, statement: str, values: _Values | None) -> object:
    with connection.cursor() as cursor:
        cursor.execute(statement.format(*["%s"] * 4), values)
    return None


def _text(connection: Any, statement: str, values: _Values | None) -> object:
    from sqlalchemy import text  # noqa: PLC0415 -- only its users have it

    named = dict(zip(_NAMES, values or (), strict=False))
    return connection.execute(text(statement.format(*[f":{name}" for name in _NAMES])), named)
