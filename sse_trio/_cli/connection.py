# What `tail` sends and through what: the body, and the HTTP client with its certificates and its proxy.
#
# Rule: a wrong value is reported without quoting it: a body and a proxy's URL may hold a password.

from __future__ import annotations

import ssl
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import typer

__all__ = ("body_of", "client_for", "with_content_type")


def body_of(data: str | None) -> bytes | None:
    """Return the body: the text itself, the content of a file after ``@``, or of stdin for ``@-``."""
    if data is None:
        return None
    try:
        if data == "@-":
            return sys.stdin.buffer.read()
        return Path(data[1:]).read_bytes() if data.startswith("@") else data.encode()
    except (OSError, UnicodeEncodeError) as exc:
        problem = exc.strerror if isinstance(exc, OSError) else "the text is not UTF-8"
        raise typer.BadParameter(f"the body can't be read: {problem}", param_hint="--data") from None


def with_content_type(headers: Mapping[str, str], body: bytes | None) -> dict[str, str]:
    """Return the headers of a request with this body: JSON, unless they say what it is."""
    given = any(name.lower() == "content-type" for name in headers)
    return {**headers} if body is None or given else {**headers, "content-type": "application/json"}


def client_for(ca: Path | None, proxy: str | None) -> httpx.AsyncClient:
    """Return the client of `tail`. Without a proxy it follows HTTPS_PROXY and the like."""
    try:
        verify = True if ca is None else ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError):
        raise typer.BadParameter("must be a file with certificates in PEM", param_hint="--ca") from None
    try:
        return httpx.AsyncClient(verify=verify, proxy=proxy)
    except (ValueError, ImportError, httpx.InvalidURL):
        wanted = "must be a URL, such as http://127.0.0.1:3128 (socks5:// needs httpx[socks])"
        raise typer.BadParameter(wanted, param_hint="--proxy") from None
