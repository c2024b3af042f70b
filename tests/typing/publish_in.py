# The types of publish_in(): nothing to await on a connection that blocks, something on one that is awaited.

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from typing_extensions import assert_type

if TYPE_CHECKING:
    import psycopg

    from sse_trio.stores import SQLiteStore
    from sse_trio.stores.postgres import PostgresStore


def blocking(
    postgres: PostgresStore, sqlite: SQLiteStore, one: psycopg.Connection[tuple[object, ...]], two: sqlite3.Connection
) -> None:
    postgres.publish_in(one, "a", "x")
    sqlite.publish_in(two, "a", "x", key="k", ttl=60)
    postgres.publish_in(one, "a", "x", ttl=0.5)
    postgres.publish_in(one, "a", "x", ttl="60")  # type: ignore[call-overload]
    sqlite.publish_in(two, "a", "x", ttl="60")  # type: ignore[call-overload]
    postgres.publish_in(7, "a", "x")  # type: ignore[call-overload]


async def awaited(postgres: PostgresStore, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
    await assert_type(postgres.publish_in(connection, "a", "x"), Awaitable[None])
    await assert_type(postgres.publish_in(connection, "a", "x", ttl=None), Awaitable[None])
    await assert_type(postgres.publish_in(connection, "a", "x", ttl=60), Awaitable[None])
