# Which rows a choice of topics means, in SQL. Names are as they are kept (names.py).
#
# Rule 1: every condition on a topic names its first 600 characters, which are in the index, and then all of it.

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

from .._topics import TopicFilter
from .connection import PostgresConnection

__all__ = ("Row", "below", "is_selected", "names_of", "newest_of_names", "rows_of_names")

_MERGED = 64  # topics below prefixes

Row: TypeAlias = tuple[int, str, bytes]
"""Id, topic, payload."""


def below(column: str, prefix: str) -> tuple[str, tuple[str, ...]]:
    """Return the condition that a name is below a prefix, and its values. "0" is the character after "/"."""
    low, high = prefix, f"{prefix[:-1]}0"
    condition = f"left({column}, 600) BETWEEN left(%s, 600) AND left(%s, 600) AND {column} >= %s AND {column} < %s"
    return condition, (low, high, low, high)


def is_selected(exact: Sequence[str], prefixes: Sequence[str]) -> tuple[str, tuple[object, ...]]:
    """Return the condition that the topic of an event is selected, and its values."""
    below_one = "SELECT FROM unnest(%s::text[]) AS asked (prefix) WHERE starts_with(topic, prefix)"
    condition = f"(topic = ANY(%s) OR EXISTS ({below_one}))"
    return condition, ([*exact], [*prefixes])


def names_of(
    connection: PostgresConnection, hub: int, topics: TopicFilter, exact: Sequence[str], prefixes: Sequence[str]
) -> list[str] | None:
    """Return the selected topics, or None for all topics and for too many below prefixes to be merged."""
    if topics.matches_all:
        return None
    found: list[str] = []
    for prefix in prefixes:
        condition, bounds = below("name", prefix)
        query = f"SELECT name FROM topics WHERE hub = %s AND {condition} AND events > 0 LIMIT %s"
        found += [name for (name,) in connection.run(query, (hub, *bounds, _MERGED + 1 - len(found)))]
        if len(found) > _MERGED:
            return None
    return [*exact, *found]


def rows_of_names(
    connection: PostgresConnection, hub: int, table: str, names: Sequence[str], after: int, limit: int
) -> list[Row]:
    """Return the rows of these topics after an id, the oldest first."""
    return _merged(connection, hub, table, names, "AND id > %s ORDER BY id", (after,), limit)


def newest_of_names(
    connection: PostgresConnection, hub: int, table: str, names: Sequence[str], count: int
) -> list[Row]:
    """Return the newest rows of these topics, the newest first."""
    return _merged(connection, hub, table, names, "ORDER BY id DESC", (), count)


def _merged(
    connection: PostgresConnection,
    hub: int,
    table: str,
    names: Sequence[str],
    order: str,
    values: tuple[int, ...],
    limit: int,
) -> list[Row]:
    direction = "DESC" if order.endswith("DESC") else "ASC"
    query = (
        "WITH found AS MATERIALIZED (SELECT one.id FROM unnest(%s::text[]) AS asked (name) CROSS JOIN LATERAL ("
        f'SELECT id FROM {table} WHERE hub = %s AND left(topic, 600) = left(asked.name COLLATE "C", 600) '
        f'AND topic = asked.name COLLATE "C" {order} LIMIT %s) AS one ORDER BY one.id {direction} LIMIT %s) '
        f"SELECT id, topic, payload FROM {table} JOIN found USING (id) WHERE hub = %s ORDER BY id {direction}"
    )
    return cast("list[Row]", connection.run(query, ([*names], hub, *values, limit, limit, hub)).fetchall())
