# A place to publish to: a SQLite file, a Redis server, a PostgreSQL. Each test of `place` runs on all of them.

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass

import pytest

from sse_trio.publisher import Publisher
from sse_trio.stores import SQLiteStore

from ..stores.conftest import (
    each_server,
    forgive_coredis,
    make_pair,
    make_proxy,
    make_redis,
    redis_binary,
    shared_redis,
)

__all__ = ("each_server", "forgive_coredis", "make_pair", "make_proxy", "make_redis", "redis_binary", "shared_redis")


@dataclass
class Place:
    """Where a hub keeps its events."""

    url: str
    options: dict

    def publisher(self, **options):
        return Publisher(self.url, create=True, **self.options, **options)

    def store(self, **options):
        if self.url.startswith("redis://"):
            from sse_trio.stores.redis import RedisStore

            return RedisStore(self.url, **self.options, **options)
        if self.url.startswith("postgresql://"):
            from sse_trio.stores.postgres import PostgresStore

            return PostgresStore(self.url, **self.options, **options)
        return SQLiteStore(self.url, **self.options, **options)


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def place(request, tmp_path):
    if request.param == "sqlite":
        return Place(str(tmp_path / "hub.sqlite"), {})
    if request.param == "postgres":
        pytest.importorskip("psycopg", reason="psycopg is not installed")
        server = request.getfixturevalue("shared_postgres")
        return Place(server.url, {"name": secrets.token_hex(4)})
    pytest.importorskip("redis", reason="redis-py is not installed")
    pytest.importorskip("coredis", reason="coredis is not installed")
    request.getfixturevalue("forgive_coredis")
    return Place(request.getfixturevalue("shared_redis").url, {"name": secrets.token_hex(4)})


@pytest.fixture
def publisher(place):
    with contextlib.closing(place.publisher()) as publisher:
        yield publisher
