# The query of a request's URL: the URL's own, the client's parameters and those of the call, together.
#
# Rule 1: a parameter of the call replaces those of the same name in the URL, and those replace the client's.
# Rule 2: what isn't replaced stays as it was written, byte by byte, because a URL may be signed.

from __future__ import annotations

from urllib.parse import unquote_plus

import httpx

__all__ = ("merged_query",)


def merged_query(query: bytes, defaults: httpx.QueryParams, given: httpx.QueryParams) -> bytes:
    """Return a URL's query with the client's ``defaults`` and the call's ``given`` parameters."""
    parts = [part for part in query.decode("ascii").split("&") if part and _name(part) not in given]
    names = {_name(part) for part in parts} | set(given)
    added = [(name, value) for name, value in defaults.multi_items() if name not in names]
    extra = str(httpx.QueryParams([*added, *given.multi_items()]))
    return "&".join([*parts, extra] if extra else parts).encode("ascii")


def _name(part: str) -> str:
    return unquote_plus(part.partition("=")[0])
