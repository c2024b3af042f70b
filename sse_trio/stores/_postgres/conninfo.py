# The conninfo that a user gives: read, and made into a name for messages. No I/O.
#
# Rule 1: no message quotes any part of it that may be a part of the password.
# Rule 2: libpq divides a URL at its first / or @. With one of them unescaped in the password, a piece of the password
#         becomes a host, a port or a database, and would be in every message. So such a URL is refused.

from __future__ import annotations

import re
from typing import Any, Final, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict

__all__ = ("name_of", "parse_conninfo")

_WANTED = 'a str such as "postgresql://user:password@host/database" or "host=... dbname=..."'
_URL: Final = re.compile(r"postgres(?:ql)?://(?:[^/@]*@)?(?P<place>[^?]*)", re.DOTALL)


def parse_conninfo(conninfo: str, argument: str) -> dict[str, Any]:
    """Return its parts. TypeError or ValueError, for the argument of this name, if it can't be meant."""
    if not isinstance(cast("object", conninfo), str):
        raise TypeError(f"{argument} must be {_WANTED}; got an object of type {type(conninfo).__name__}")
    try:
        parts = conninfo_to_dict(conninfo)
    except psycopg.Error:
        raise ValueError(f"{argument} must be {_WANTED}; this one can't be read") from None
    url = _URL.match(conninfo)
    if (url is not None and "@" in url["place"]) or not re.fullmatch("[0-9,]*", str(parts.get("port") or "")):
        raise ValueError(
            f"{argument} must be {_WANTED}, with user and password percent-encoded: "
            "urllib.parse.quote(password, safe='')"
        )
    return parts


def name_of(parts: dict[str, Any]) -> str:
    """Return the server's name, without user and password."""
    host, port = parts.get("host") or "localhost", parts.get("port") or 5432
    return f"PostgreSQL at {host}:{port}/{parts.get('dbname') or ''}"
