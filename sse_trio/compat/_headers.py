# The headers of sse-starlette's responses.

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from starlette.types import Scope

__all__ = ("legal_headers", "with_defaults")


def with_defaults(headers: Mapping[str, str] | None) -> MutableHeaders:
    """Return the headers with sse-starlette's own."""
    all_headers = MutableHeaders()
    if headers is not None:
        all_headers.update(headers)
    all_headers.setdefault("Cache-Control", "no-store")
    all_headers["Connection"] = "keep-alive"
    all_headers["X-Accel-Buffering"] = "no"
    return all_headers


def legal_headers(raw_headers: list[tuple[bytes, bytes]], scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the headers that the request's version of HTTP allows."""
    # RFC 9113 section 8.2.2 and RFC 9114 section 4.2: a message with a Connection header is malformed.
    if scope.get("http_version", "1.1").startswith("1"):
        return raw_headers
    return [(name, value) for name, value in raw_headers if name != b"connection"]
