# Publishing on a connection of the user's: one statement, whatever driver has made the connection.
#
# Rule 1: a driver is known by the package of the connection's class, so none of them is imported that is not in use.
# Rule 2: an asynchronous connection gives something to await, in the user's own event loop. Nothing here waits.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeAlias, final

from ..._arguments.checks import wrong
from .names import digest_of, to_text

__all__ = ("Statement", "execute")

_Values: TypeAlias = tuple[str, str, bytes, bytes | None, int | None]


@final
class Statement:
    """The statement that publishes, in the spelling of each driver."""

    def __init__(self, schema: str) -> None:
        call = f"SELECT {schema}.publish_packed({{}}::text, {{}}::text, {{}}::bytea, {{}}::bytea, {{}}::bigint)"
        self.percent = call.format(*["%s"] * 5)
        self.dollar = call.format(*[f"${n}" for n in range(1, 6)])
        names = ("hub", "topic", "payload", "producer", "number")
        self.casts = f"SELECT {schema}.publish_packed({', '.join(f':{name}' for name in names)})"
        self.names = names


def execute(
    connection: object, statement: Statement, hub: str, item: tuple[str, bytes], key: tuple[str, int] | None
) -> Awaitable[None] | None:
    """Execute the statement on the connection. TypeError for a connection of no driver that is known."""
    topic, payload = item
    producer, number = (None, None) if key is None else (digest_of(key[0]), key[1])
    outcome = _driver_of(connection)(connection, statement, (hub, to_text(topic), payload, producer, number))
    return _finish(outcome) if isawaitable(outcome) else None


async def _finish(outcome: Awaitable[object]) -> None:
    await outcome


def _driver_of(connection: object) -> Callable[[Any, Statement, _Values], object]:
    packages = {kind.__module__.partition(".")[0] for kind in type(connection).__mro__}
    for package, driver in _DRIVERS:
        if package in packages:
            return driver
    raise wrong(TypeError, "connection", "a connection of psycopg, asyncpg, SQLAlchemy or Django", connection)


def _psycopg(connection: Any, statement: Statement, values: _Values) -> object:
    return connection.execute(statement.percent, values)


def _asyncpg(connection: Any, statement: Statement, values: _Values) -> object:
    return connection.execute(statement.dollar, *values)


def _by_cursor(connection: Any, statement: Statement, values: _Values) -> object:
    with connection.cursor() as cursor:
        cursor.execute(statement.percent, values)
    return None


def _sqlalchemy(connection: Any, statement: Statement, values: _Values) -> object:
    from sqlalchemy import BigInteger, LargeBinary, Text, bindparam, text  # noqa: PLC0415 -- only its users have it

    kinds: tuple[Any, ...] = (Text, Text, LargeBinary, LargeBinary, BigInteger)
    names = statement.names
    typed = text(statement.casts).bindparams(
        *(bindparam(name, type_=kind) for name, kind in zip(names, kinds, strict=True))
    )
    return connection.execute(typed, dict(zip(names, values, strict=True)))


_DRIVERS = (
    ("psycopg", _psycopg),
    ("asyncpg", _asyncpg),
    ("sqlalchemy", _sqlalchemy),
    ("django", _by_cursor),
    ("psycopg2", _by_cursor),
)
