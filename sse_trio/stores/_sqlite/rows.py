# Writing many rows with few statements. Blocks.
#
# Rule 1: Python gives up its lock in each step of a statement, and a thread that commits may wait for the event loop
#         each time. So a statement has as many rows as there are: 100 events take three steps, not a hundred.
# Rule 2: the numbers of rows are few, so that SQLite prepares each statement once.
# Rule 3: statements say OR ROLLBACK. Otherwise SQLite keeps a copy of every page that a statement of many rows changes,
#         so that it could undo this one alone, and that is a third of what an event costs. Nothing here goes on with a
#         transaction in which a statement has failed.

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Final

__all__ = ("write_rows",)

_ROWS: Final = (64, 32, 16, 8, 4, 2, 1)
"""Rows of one statement. An old SQLite takes 999 values; ours have up to five in a row."""


def write_rows(
    connection: sqlite3.Connection, into: str, rows: Sequence[tuple[object, ...]], *, on_conflict: str = ""
) -> None:
    """Write rows, all of the same length.

    Args:
        connection: the connection, in a transaction.
        into: the table and its columns, such as ``cuts (upto, time)``.
        rows: the values.
        on_conflict: what to do with a row that is there already, such as ``ON CONFLICT (upto) DO NOTHING``.
    """
    done = 0
    for count in _ROWS:
        while len(rows) - done >= count:
            part = rows[done : done + count]
            values = f"({', '.join('?' * len(part[0]))})"
            statement = f"INSERT OR ROLLBACK INTO {into} VALUES {', '.join([values] * count)} {on_conflict}"  # noqa: S608 -- ours
            connection.execute(statement, [*chain.from_iterable(part)])
            done += count
