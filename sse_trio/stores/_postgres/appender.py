# What appends to a hub: a connection, the writer, and the numbers of its groups. Blocks; used in one thread at a time.
#
# Rule 1: a store and a Publisher append by this and nothing else, so what one of them writes the other could have
#         written.
# Rule 2: after any error the connection is made anew. A group is sent again with its number, which the writer knows.

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import final

from .._append import LOST, Append, Result
from .._protocol import EventId
from .connection import PostgresConnection, PostgresServer
from .install import prepare
from .writer import PostgresWriter

__all__ = ("GroupOfAppends", "Link", "PostgresAppender")


@final
class Link:
    """A connection that is made when it is needed, and made again when it was closed."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._connection: PostgresConnection | None = None

    def get(self) -> PostgresConnection:
        """Return the connection. Raises what psycopg raises."""
        if self._connection is None or self._connection.closed:
            self._connection = None
            self._connection = self._server.connect()
        return self._connection

    def close(self) -> None:
        """Close the connection; it is made again when it is used."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@final
class GroupOfAppends:
    """A group that is to be committed, however often it is sent."""

    def __init__(self, appends: Sequence[Append], number: int) -> None:
        self.appends = appends
        self.number = number
        self.tries = 0


@final
class PostgresAppender:
    """Appends to a hub. Every call may raise what psycopg raises.

    Args:
        server: where.
        writer: of the hub.
        migrate: whether to make the tables where there are none.
    """

    def __init__(self, server: PostgresServer, writer: PostgresWriter, *, migrate: bool) -> None:
        self._server = server
        self._link = Link(server)
        self._writer = writer
        self._migrate = migrate
        self._is_prepared = False
        self._numbers = count(1)

    def new_group(self, appends: Sequence[Append]) -> GroupOfAppends:
        """Return a group to append."""
        return GroupOfAppends(appends, next(self._numbers))

    def append(self, group: GroupOfAppends) -> list[Result]:
        """Append a group, unless an earlier try did, and return the result of each append."""
        connection = self._prepared()
        again, group.tries = group.tries > 0, group.tries + 1
        epoch, results = self._writer.commit(connection, group.appends, group.number, again=again)
        return [LOST if n == LOST else [EventId(epoch, first + i) for i in range(n)] for first, n in results]

    def maintain(self) -> bool:
        """Trim what is too old. Return whether there is more."""
        return self._writer.maintain(self._prepared())

    def sweep(self) -> bool:
        """Trim by the ages that some topics have and others have not. Return whether there is more to look at."""
        return self._writer.sweep(self._prepared())

    def prepare(self) -> None:
        """Look whether the database is fit, and add the hub unless it is there. Otherwise the first append does."""
        self._prepared()

    def _prepared(self) -> PostgresConnection:
        connection = self._link.get()
        if not self._is_prepared:
            prepare(connection, self._server, migrate=self._migrate)
            self._writer.make_hub(connection)
            self._is_prepared = True
        self._writer.failovers.look(connection)
        return connection

    def close(self) -> None:
        """Close the connection."""
        self._link.close()
