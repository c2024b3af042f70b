# The scope of a request, as servers make it.

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from .._arguments.checks import wrong

if TYPE_CHECKING:
    from starlette.types import Scope

__all__ = ("check_state", "http_scope")


def http_scope(
    method: str,
    path: str,
    *,
    raw_path: bytes,
    query_string: bytes,
    headers: list[tuple[bytes, bytes]],
    scheme: str = "http",
    server: tuple[str, int | None] = ("testserver", 80),
    client: tuple[str, int] = ("127.0.0.1", 50_000),
    root_path: str = "",
    state: Mapping[str, object] | None = None,
) -> Scope:
    """Return the scope of an HTTP request, as uvicorn and hypercorn make it, with a copy of the lifespan's state."""
    return {
        "type": "http",
        # 2.3: a send after a disconnect is ignored. From 2.4 on it raises OSError, which no server does yet.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": path,
        "raw_path": raw_path,
        "query_string": query_string,
        "root_path": root_path,
        "headers": [(name.lower(), value) for name, value in headers],
        "client": client,
        "server": server,
        "extensions": {},
        "state": dict(state or {}),
    }


def check_state(state: object) -> None:
    """Check the state of a lifespan. Its keys become attributes of request.state."""
    wanted = 'a mapping with str as keys, such as {"hub": hub}, or None'
    if state is None:
        return
    if not isinstance(state, Mapping):
        raise wrong(TypeError, "state", wanted, state)
    for key in cast("Mapping[object, object]", state):
        if not isinstance(key, str):
            raise wrong(TypeError, "state", wanted, key)
