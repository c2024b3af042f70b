# Writing many rows with few statements. Blocks.
#
# Rule 1: Python gives up its lock in each step of a statement, and a thread that commits may wait for the event loop
#         each time. So a statement has as many rows as there are: 100 events take eight steps, not a hundred.
# Rule 2: the numbers of rows are few, so that SQLite prepares each statement once.

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Final

__all__ = ("write_rows",)

_ROWS: Final = (64, 16, 4, 1)
"""Rows of one statement. An old SQLite takes 999 values; ours have up to five in a row."""


def write_rows(connection: sqlite3.Connection, into: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Write rows, all of the same length.

    Args:
        connection: the connection, in a transaction.
        into: the statement up to its values, such as ``INSERT INTO cuts (upto, time)``.
        rows: the values.
    """
    done = 0
    for count in _ROWS:
        while len(rows) - done >= count:
            part = rows[done : done + count]
            values = f"({', '.join('?' * len(part[0]))})"
            connection.execute(f"{into} VALUES {', '.join([values] * count)}", [*chain.from_iterable(part)])
            done += count
