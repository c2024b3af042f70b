# Publishing to a SQLite file: the writer of the store, in the thread that publishes.
#
# Rule 1: after any error the file is opened anew, because it may have been replaced. A publisher keeps nothing that
#         belongs to the old one.
# Rule 2: a file is made only if that was asked for. In the wrong folder, a new one would take events that nobody reads.

from __future__ import annotations

import os
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

    def __init__(self, path: str, open_appender: Callable[[], SQLiteAppender], *, create: bool) -> None:
        self.name = f"the SQLite file {path}"
        self._path = path
        self._create = create
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
                self._appender = self._opened()
            return self._appender.append(group)
        except (sqlite3.Error, OSError) as exc:
            self.close()
            raise StoreUnavailableError(self.name, exc) from exc

    def _opened(self) -> SQLiteAppender:
        if not self._create and not os.path.exists(self._path):  # noqa: PTH110 -- it may be any text
            raise FileNotFoundError(
                f"there is no file {os.path.abspath(self._path)!r}; start the server that makes it, "  # noqa: PTH100
                "correct the path, or write create=True"
            )
        return self._open()

    def close(self) -> None:
        """Close the file."""
        appender, self._appender = self._appender, None
        if appender is not None:
            appender.close()
