# Which store a Publisher writes to: a path or a URL, and the options of that store.
#
# Rule 1: the options are the store's own, with its own checks and defaults, so that a program gives the same ones to
#         both.
# Rule 2: no message quotes a URL, which may have a password in it.

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from .._arguments.checks import wrong
from ..stores.sqlite import SQLiteStore, opener_of
from ._commits import Appender
from ._sqlite import SQLiteConnection

__all__ = ("find_place", "sqlite_path")

_SQLITE = "sqlite:///"
_REDIS = ("redis://", "rediss://", "unix://", "sentinel://", "sentinels://", "cluster://", "clusters://")
_POSTGRES = ("postgresql://", "postgres://")
_WANTED = (
    "the path of a SQLite file, sqlite:///path, redis://host, rediss://host, unix://path, "
    "sentinel://host/service, cluster://host, postgresql://host/database, or a redis.Redis"
)


def find_place(store: object, options: Mapping[str, Any], *, create: bool) -> Callable[[], Appender]:
    """Return what makes a connection to this store, without opening it.

    Raises:
        TypeError, ValueError: the store or an option makes no sense.
        ImportError: redis-py or psycopg is needed and not installed.
    """
    path = sqlite_path(store)
    if path is not None:
        return _sqlite(path, options, create=create)
    if isinstance(store, str) and store.startswith(_POSTGRES):
        return _postgres(store, options)
    if isinstance(store, str) and not store.startswith(_REDIS):
        scheme, _, _ = store.partition("://")
        raise wrong(ValueError, "store", _WANTED, f"{scheme}://")
    return _redis(store, options)


def sqlite_path(store: object) -> str | None:
    """Return the path of the SQLite file that is meant, or None for something else."""
    if isinstance(store, os.PathLike):
        return os.fsdecode(cast("os.PathLike[str]", store))
    if not isinstance(store, str) or ("://" in store and not store.startswith(_SQLITE)):
        return None
    return store.removeprefix(_SQLITE)


def _sqlite(path: str, options: Mapping[str, Any], *, create: bool) -> Callable[[], Appender]:
    store = SQLiteStore(path, **options)  # it checks the path and the options, and is never opened
    return partial(SQLiteConnection, path, opener_of(store), create=create)


def _redis(store: object, options: Mapping[str, Any]) -> Callable[[], Appender]:
    try:
        from ._redis import check_redis, new_redis  # noqa: PLC0415 -- what it needs may be missing
    except ModuleNotFoundError as exc:
        msg = "publishing to Redis without an event loop needs redis-py: pip install 'sse-trio[publisher]'"
        raise ImportError(msg) from exc
    if not isinstance(store, str) and not check_redis(store):
        raise wrong(TypeError, "store", _WANTED, store)
    return new_redis(store, **options)


def _postgres(conninfo: str, options: Mapping[str, Any]) -> Callable[[], Appender]:
    try:
        from ._postgres import new_postgres  # noqa: PLC0415 -- what it needs may be missing
    except ModuleNotFoundError as exc:
        raise ImportError("publishing to PostgreSQL needs psycopg: pip install 'sse-trio[postgres]'") from exc
    return new_postgres(conninfo, **options)
