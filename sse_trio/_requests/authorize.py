# Who may ask for something: what an `authorize` function has answered, and whether a browser asks for another site.
#
# Rule 1: only True allows. Anything else, even another truthy value, is a 403.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeAlias
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

__all__ = ("Authorize", "check_allowed", "check_same_origin")

Authorize: TypeAlias = Callable[[Request], bool | Awaitable[bool]]
"""Returns whether the request's user may do this."""


async def check_allowed(allowed: object, why: str | None = None) -> None:
    """Raise HTTPException(403) unless an ``authorize`` function has returned True, or an awaitable of it."""
    if isawaitable(allowed):
        allowed = await allowed
    if allowed is not True:
        raise HTTPException(403, why)


def check_same_origin(request: Request, *, default: str, why: str) -> None:
    """Raise HTTPException(403) for a request that a browser sends from another origin.

    Args:
        request: the request.
        default: the other `Sec-Fetch-Site`, beside ``same-origin``, that counts as this origin.
        why: the detail of the 403.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        same = site in {"same-origin", default}
    else:
        same = origin is None or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
    if not same:
        raise HTTPException(403, why)
