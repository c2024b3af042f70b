# Publishing to a SQLite file: the writer of the store, in the thread that publishes.
#
# Rule 1: after any error the file is opened anew, because it may have been replaced. A publisher keeps nothing that
#         belongs to the old one.

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import final

from .._errors import StoreUnavailableError
from ..stores._append import Append, Result
from ..stores._sqlite.appender import SQLiteAppender

__all__ = ("SQLiteConnection",)


@final
class SQLiteConnection:
    """Appends to a SQLite file, which is opened when it is first needed."""

    closes_for_forks = True

    def __init__(self, path: str, open_appender: Callable[[], SQLiteAppender]) -> None:
        self.name = f"the SQLite file {path}"
        self._open = open_appender
        self._appender: SQLiteAppender | None = None

    @property
    def forbids_forks(self) -> bool:
        """Whether the file is open."""
        return self._appender is not None

    def append(self, group: Sequence[Append], /) -> list[Result]:
        """Append a group."""
        try:
            if self._appender is None:
                self._appender = self._open()
            return self._appender.append(group)
        except (sqlite3.Error, OSError) as exc:
            self.close()
            raise StoreUnavailableError(self.name, exc) from exc

    def close(self) -> None:
        """Close the file."""
        appender, self._appender = self._appender, None
        if appender is not None:
            appender.close()
