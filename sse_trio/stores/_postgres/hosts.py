# The servers that a conninfo names, one of which is the primary. Blocks.
#
# Rule 1: each is tried in turn, as libpq does, and who of them is the primary is asked in SQL (connection.py).
#         target_session_attrs comes first, because libpq knows all addresses of a name. But a pooler tells libpq what
#         its server was when the pooler first met it, which a failover makes wrong: libpq takes the standby for the
#         primary, or refuses the primary. So each is tried again without it.
# Rule 2: what libpq alone can split (a service file, the environment, numbers that don't match) is left to it.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from psycopg import OperationalError

__all__ = ("each_host", "first_of")

_NAMES = ("host", "hostaddr", "port")

_T = TypeVar("_T")


def each_host(conninfo: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what to connect with, one after another."""
    each = _split(conninfo)
    if conninfo.get("target_session_attrs", "any") == "any":
        return each
    return each + [{**one, "target_session_attrs": "any"} for one in each]


def _split(conninfo: dict[str, Any]) -> list[dict[str, Any]]:
    parts = {name: str(conninfo[name]).split(",") for name in _NAMES if conninfo.get(name)}
    count = max((len(parts[name]) for name in ("host", "hostaddr") if name in parts), default=1)
    if any(len(values) not in {1, count} for values in parts.values()):
        return [conninfo]
    each = [{name: values[n % len(values)] for name, values in parts.items()} for n in range(count)]
    return [{**conninfo, **one} for one in each]


def first_of(servers: Sequence[dict[str, Any]], connect: Callable[[dict[str, Any]], _T]) -> _T:
    """Return the first connection that can be made; raise what all of them said if none can."""
    failures: list[str] = []
    for server in servers:
        try:
            return connect(server)
        except OperationalError as exc:
            if len(servers) == 1:
                raise
            failures.append(f"{server.get('host') or server.get('hostaddr')}:{server.get('port') or 5432}: {exc}")
    raise OperationalError("; ".join(failures))
