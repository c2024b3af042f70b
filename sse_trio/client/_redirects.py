# Redirects: where a redirected request may go, and what it carries there.
#
# Rule 1: the first origin gets everything. The same host by https instead of http counts as the first origin, and so do
#         the origins that the caller trusts.
# Rule 2: any other origin gets the headers of a safe list, and nothing more: no credentials in headers of any name, no
#         cookies, no Last-Event-ID. That is Fetch's credentials mode "same-origin", made stricter.
# Rule 3: no other origin gets a body. A redirect that would send it there fails.
# Rule 4: a request that has left the first origin stays without them, even if it is redirected back, because another
#         server chose where it goes.
# Rule 5: no message shows more of a Location than its origin. The other parts may hold a password or a token.

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import NamedTuple

import httpx

__all__ = ("Origin", "RedirectRefusedError", "Redirects")

_logger = logging.getLogger("sse_trio.client")

# These reveal nothing about the caller. Content-Length is 0 here, because of rule 3.
_SAFE_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "content-length",
        "host",
        "user-agent",
    }
)
_DEFAULT_PORTS = (("http", 80), ("https", 443))


class RedirectRefusedError(httpx.RequestError):
    """A redirect would have sent the request's body to an origin that the caller doesn't trust."""


class Origin(NamedTuple):
    """Scheme, host and port (WHATWG HTML 7.1.1). A host ``*.name`` stands for every name below it."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """Return the origin of a URL."""
        return cls(url.scheme, url.host, url.port or dict(_DEFAULT_PORTS).get(url.scheme))

    def covers(self, other: Origin) -> bool:
        """Whether this stands for the other origin, or is the same."""
        if self.host.startswith("*."):
            return self._replace(host="") == other._replace(host="") and other.host.endswith(self.host[1:])
        return self == other

    def is_upgraded_by(self, other: Origin) -> bool:
        """Whether the other is the same host by https in place of http, both at their usual ports."""
        return (self.scheme, self.port) == _DEFAULT_PORTS[0] and other == Origin("https", self.host, 443)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_usual = (self.scheme, self.port) in _DEFAULT_PORTS
        return f"{self.scheme}://{host}" if is_usual else f"{self.scheme}://{host}:{self.port}"


class Redirects:
    """The redirects of one request.

    Args:
        first: the request before any redirect.
        trusted: other origins that may get all that the first one gets.
    """

    def __init__(self, first: httpx.Request, trusted: Collection[Origin]) -> None:
        self._first = Origin.of(first.url)
        self._trusted = trusted
        self._has_left = False

    def follow(self, response: httpx.Response, redirected: httpx.Request) -> httpx.Request:
        """Return the request to send next, given the one that httpx would send.

        Raises:
            RedirectRefusedError: the redirect would send a body to an origin that may not get it.
        """
        origin = Origin.of(redirected.url)
        if not self._has_left and self._may_have_all(origin):
            _keep_authorization(response.request, redirected)
            return redirected
        self._has_left = True
        if _has_body(redirected):
            raise RedirectRefusedError(_body_refused(response.status_code, origin), request=redirected)
        _drop_secrets(redirected, self._first, origin)
        return redirected

    def _may_have_all(self, origin: Origin) -> bool:
        is_first = origin == self._first or self._first.is_upgraded_by(origin)
        return is_first or any(trusted.covers(origin) for trusted in self._trusted)


def _keep_authorization(request: httpx.Request, redirected: httpx.Request) -> None:
    """Put back the header that httpx removes when the origin changes. httpx has added the client's cookies itself."""
    if "authorization" in request.headers:
        redirected.headers["authorization"] = request.headers["authorization"]


def _has_body(request: httpx.Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _body_refused(status: int, origin: Origin) -> str:
    return (
        f"a {status} redirect would send the request's body to another origin; to allow that, write "
        f"trusted_origins=[{str(origin)!r}]"
    )


def _drop_secrets(request: httpx.Request, first: Origin, origin: Origin) -> None:
    dropped = sorted(set(request.headers) - _SAFE_HEADERS)
    for name in dropped:
        del request.headers[name]
    if dropped:
        _logger.info(
            "redirected from %r to another origin, %r, which doesn't get %s; trusted_origins= allows it",
            str(first),
            str(origin),
            ", ".join(map(repr, dropped)),
        )
