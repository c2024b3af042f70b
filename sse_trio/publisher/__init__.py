"""Publishing to a hub from a program without an event loop: a Celery worker, a Django view, a cron job, a script.

A :class:`Publisher` writes to the store that the hub of your server has open. Subscribers get the event as from any
other publisher, within milliseconds.
"""

# Publisher: the handle. What is behind it:
#
#   _by_process.py    a connection for each process, which a fork does not share
#   _commits.py       the appends of several threads, committed together
#   _sqlite.py        over the standard library
#   _redis.py         over redis-py, the extra `publisher`
#   _postgres.py      over psycopg, the extra `postgres`
#
# Rule 1: nothing is opened before the first publish, so that a Publisher can be a global of a module that is imported
#         before a server forks its workers.
# Rule 2: events are checked, packed and written by the same code as a hub's (stores/_items.py, the writers of stores/).

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict, final
from weakref import finalize

from anyio import ClosedResourceError

from .._arguments.checks import check_flag, check_key
from .._wire.event import Sendable
from ..stores._expiry import with_ttl
from ..stores._items import pack_item, pack_items
from ..stores._keys import key_of
from ..stores._kicks import pack_kick
from ..stores._protocol import EventId
from ..stores._topic_limits import PerTopic
from ._by_process import ByProcess, close_before_forks
from ._places import find_place

if TYPE_CHECKING:
    from redis import Redis
    from typing_extensions import Self, Unpack

__all__ = ("Publisher", "PublisherOptions")


class PublisherOptions(TypedDict, total=False):
    """The options of the store: those of its class, except ``ssl_context`` of a ``RedisStore``."""

    max_events: int | None
    max_age: float | None
    max_bytes: int | None
    per_topic: PerTopic
    clock: Callable[[], float]
    remember_keys: float
    mode: int
    """Of a SQLite file."""
    poll_interval: float
    """Of a SQLite or PostgreSQL store, which a publisher ignores."""
    name: str
    """Of a hub in Redis or PostgreSQL."""
    schema: str
    """PostgreSQL."""
    listen_conninfo: str | None
    """Of a PostgreSQL store, which a publisher ignores."""
    migrate: bool
    """PostgreSQL."""
    reply_within: float
    """Redis and PostgreSQL."""
    retry_for: float
    """Redis and PostgreSQL."""
    credentials: Callable[[], tuple[str | None, str]] | None
    """Redis: an ordinary function here."""
    sentinel_credentials: Callable[[], tuple[str | None, str]] | None
    """Redis: an ordinary function here."""
    wait_replicas: int
    """Redis."""


@final
class Publisher:
    """Publishes events without an event loop.

    ::

        publisher = Publisher("redis://localhost", name="shop")
        publisher.publish("orders/7", "paid")

    Args:
        store: where the hub keeps its events. The path of the file of a ``SQLiteStore``, or ``sqlite:///events.sqlite``
            (``sqlite:////srv/events.sqlite`` for an absolute path). Or the URL of the server of a ``RedisStore``:
            ``redis://``, ``rediss://`` or ``unix://``. Or a ``redis.Redis`` of your own, for what a URL can't say,
            such as your own certificates. Or the URL of the database of a ``PostgresStore``: ``postgresql://``.
        create: make the SQLite file if there is none. Without it, publishing then is an error: the path is wrong, or
            the server that reads the file has never run.
        options: the options that you give to the store. Whoever publishes trims: give the same limits as your server.

    Make one for the program and use it everywhere. Nothing is opened before the first publish. Threads may share it:
    what several of them publish at once is committed together. So may processes: after a fork, each has a connection
    of its own. ``close()``, or leaving a ``with`` block, closes the connection of this process.

    Raises:
        ValueError, TypeError: an argument makes no sense. Raised when the publisher is made.
        ImportError: redis-py or psycopg is not installed; ``sse-trio[publisher]`` and ``sse-trio[postgres]`` have them.
    """

    __slots__ = ("__weakref__", "_clock", "_close", "_processes")

    def __init__(
        self, store: str | os.PathLike[str] | Redis, /, *, create: bool = False, **options: Unpack[PublisherOptions]
    ) -> None:
        check_flag("create", create)
        self._processes = ByProcess(find_place(store, options, create=create))
        self._clock: Callable[[], float] = options.get("clock") or time.time
        self._close = finalize(self, self._processes.close)  # at the exit of the interpreter at the latest
        close_before_forks(self._processes)

    def __repr__(self) -> str:
        return f"<Publisher to {self._processes.name}: {'open' if self._close.alive else 'closed'}>"

    def publish(
        self, topic: str, event: Sendable, *, key: str | tuple[str, int] | None = None, ttl: float | None = None
    ) -> EventId:
        """Publish one event, as ``hub.publish()`` does, and return the id that it got.

        Blocks until the store keeps the event, as safely as that store promises. With ``key``, a name or a number that
        each producer counts up, you can publish the same again safely. With ``ttl``, the event expires after that
        many seconds: a subscriber that comes later is not sent it, and that is no gap.

        Raises:
            ValueError, TypeError: the event, the topic, the key or the ttl is not legal, or the event has an id. The
                caller's fault.
            StoreUnavailableError: the store is down; the outcome is unknown.
            ClosedResourceError: the publisher was closed. The caller's fault.
            RuntimeError: a signal handler called it that has interrupted it in the same thread. The caller's fault.
        """
        return self._append([pack_item(topic, event)], key, ttl)[0]

    def publish_many(
        self,
        events: Iterable[tuple[str, Sendable]],
        *,
        key: str | tuple[str, int] | None = None,
        ttl: float | None = None,
    ) -> list[EventId]:
        """Publish events as neighbours, all or none of them, and return their ids. Otherwise as :meth:`publish`."""
        return self._append(pack_items(events), key, ttl)

    def kick(self, labels: Mapping[str, str], *, group: str | None = None) -> None:
        """End the streams with these labels in every process that has this hub open, as ``Hub.kick()`` does.

        Returns when the store keeps the order; the processes obey within milliseconds. Raises: as :meth:`publish`.
        """
        self._append([pack_kick(labels, group)], None)

    def _append(
        self, items: list[tuple[str, bytes]], given_key: str | tuple[str, int] | None, ttl: float | None = None
    ) -> list[EventId]:
        key = key_of(given_key)
        items = with_ttl(items, ttl, self._clock)
        if key is not None:
            check_key(key)
        if not self._close.alive:
            raise ClosedResourceError("this Publisher is closed; make one for the program, and close it at the end")
        return self._processes.commits().append(items, key)

    def close(self) -> None:
        """Close the connection of this process. Closing twice does nothing."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.close()
