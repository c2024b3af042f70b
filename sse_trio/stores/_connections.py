# What a user's connection is, on which a store publishes in the user's own transaction: for type checkers. No I/O.
#
# Rule 1: no driver is imported, so a connection is described by what is called of it.

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeAlias

__all__ = ("AsyncConnection", "SyncConnection")


class AsyncConnection(Protocol):
    """A connection whose ``execute()`` is awaited."""

    def execute(self, statement: Any, /) -> Awaitable[Any]:
        """Execute a statement."""
        ...


class _Executes(Protocol):
    def execute(self, statement: Any, /) -> Any: ...


class _HasCursors(Protocol):
    def cursor(self) -> Any: ...


SyncConnection: TypeAlias = "_Executes | _HasCursors"
"""A connection whose ``execute()``, or whose cursor's, returns when the statement is executed."""
