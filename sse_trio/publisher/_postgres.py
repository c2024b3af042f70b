# Publishing to PostgreSQL: the writer of the store, in the thread that publishes. Needs the extra `postgres`.
#
# Rule 1: a group is sent until it is answered, for `retry_for` seconds, as a store does; the writer recognizes a group
#         that it has had.
# Rule 2: a child does not touch its parent's connection: each process has an appender of its own (_by_process.py).

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, final

from .._errors import StoreUnavailableError
from ..stores._append import Append, Result
from ..stores._postgres.appender import PostgresAppender
from ..stores._postgres.connection import FAILURES, is_transient
from ..stores._redis.backoff import Backoff
from ..stores.postgres import PostgresStore, name_of, opener_of

__all__ = ("PostgresPublishing", "new_postgres")

_RETRY_FOR = 10.0  # seconds, as a store's


def new_postgres(conninfo: str, *, retry_for: float = _RETRY_FOR, **options: Any) -> Callable[[], PostgresPublishing]:
    """Return what makes a connection. The options are those of ``PostgresStore``, with its defaults."""
    store = PostgresStore(conninfo, retry_for=retry_for, **options)  # it checks them, and is never opened
    return lambda: PostgresPublishing(name_of(store), opener_of(store), retry_for)


@final
class PostgresPublishing:
    """Appends to a hub in PostgreSQL."""

    closes_for_forks = forbids_forks = False

    def __init__(self, name: str, open_appender: Callable[[], PostgresAppender], retry_for: float) -> None:
        self.name = name
        self._appender = open_appender()
        self._retry_for = retry_for

    def append(self, group: Sequence[Append], /) -> list[Result]:
        """Append a group, and send it until it is answered."""
        sent = self._appender.new_group(group)
        backoff, until = Backoff(), time.monotonic() + self._retry_for
        while True:
            try:
                return self._appender.append(sent)
            except FAILURES as exc:
                pause = backoff.next_pause()
                if not is_transient(exc) or time.monotonic() + pause > until:
                    raise StoreUnavailableError(self.name, exc) from exc
            time.sleep(pause)

    def close(self) -> None:
        """Close the connection; it is opened again when it is used."""
        self._appender.close()
