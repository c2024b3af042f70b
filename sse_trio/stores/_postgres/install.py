# Whether a database is fit for a store, and the tables if they are to be made. Blocks.
#
# Rule 1: tables that are there are not touched, so a role that may only read and write can open the store.
# Rule 2: of several processes that start together one makes the tables; the others wait for it.
# Rule 3: functions of an earlier release are replaced by whoever may do that. A store works without, so what fails
#         there is a warning.

from __future__ import annotations

import logging
from contextlib import closing

import psycopg

from .connection import FAILURES, PostgresConnection, PostgresServer, transaction
from .functions import IS_OLD
from .schema import VERSION, additions, migration

__all__ = ("prepare",)

_OLDEST = 130_000  # 13: the first that has what the schema is written in
_LOCK = 5_771_938_112_064  # an arbitrary number: an advisory lock of the database

_MAY_UPDATE = (
    "SELECT FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace "
    f"WHERE nspname = %s AND {IS_OLD} AND pg_has_role(proowner, 'USAGE')"
)

_logger = logging.getLogger("sse_trio")


def prepare(connection: PostgresConnection, server: PostgresServer, *, migrate: bool) -> None:
    """Raise :exc:`psycopg.Error` unless a store can use this database. ``migrate``: make what is missing."""
    _check_server(connection, server.name)
    version = _version_of(connection, server.schema)
    if version is None and migrate:
        version = _make_tables(connection, server)
    if version is None:
        raise psycopg.ProgrammingError(
            f"the schema {server.schema} has no tables of sse_trio's; run what "
            "sse_trio.stores.postgres.migration() returns"
        )
    if version != VERSION:
        raise psycopg.ProgrammingError(
            f"the schema {server.schema} has version {version}; this release of sse_trio knows version {VERSION}"
        )
    if migrate and connection.run(_MAY_UPDATE, (server.schema,)).fetchone() is not None:
        _update_functions(server)


def _check_server(connection: PostgresConnection, name: str) -> None:
    if connection.info.server_version < _OLDEST:
        raise psycopg.NotSupportedError("it is older than PostgreSQL 13")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise psycopg.NotSupportedError(f"the database has the encoding {encoding}; make one with UTF8")
    if connection.run("SHOW synchronous_commit").fetchone() == ("off",):
        _logger.warning("%s may lose acknowledged events at a crash; set synchronous_commit = on", name)


def _version_of(connection: PostgresConnection, schema: str) -> int | None:
    # Not to_regclass(), which may answer from before the lock: within a transaction it keeps what it has looked up.
    found = connection.run(
        "SELECT FROM pg_tables WHERE schemaname = %s AND tablename = 'version'", (schema,)
    ).fetchone()
    if found is None:
        return None
    found = connection.run(f"SELECT max(version) FROM {schema}.version").fetchone()
    return None if found is None else found[0]


def _make_tables(connection: PostgresConnection, server: PostgresServer) -> int | None:
    with transaction(connection, server.begin_write):
        connection.run("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        if _version_of(connection, server.schema) is None:
            connection.run(migration(server.schema))
    return _version_of(connection, server.schema)


def _update_functions(server: PostgresServer) -> None:
    try:
        with closing(server.connect()) as own, transaction(own, server.begin_write):  # an error closes its connection
            own.run("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            own.run(additions(server.schema))
    except FAILURES as exc:
        _logger.warning(
            "the SQL function %s.publish has no ttl yet: %s; run what sse_trio.stores.postgres.additions() returns",
            server.schema,
            exc,
        )
