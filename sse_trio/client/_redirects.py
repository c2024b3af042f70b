# Redirects: where a redirected request may go, and what it carries there.
#
# Rule 1: to the origin that was asked first, everything goes. The same host by https, where http was asked, is that
#         origin, too; so are those that the caller trusts.
# Rule 2: to any other origin go the headers of a safe list, and nothing else: no credentials in headers of whatever
#         name, no cookies, no Last-Event-ID. That is Fetch's credentials mode "same-origin", made stricter.
# Rule 3: a body goes nowhere else. A request that would need it there fails.
# Rule 4: a request that has left stays without them, also if it is redirected back: the server that it went to chose
#         where it goes on.
# Rule 5: no message has more of a Location than its origin. The rest may be a password or a token.

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import NamedTuple

import httpx

__all__ = ("Origin", "RedirectRefusedError", "Redirects")

_logger = logging.getLogger("sse_trio.client")

# What says nothing about the caller. Content-Length is 0 here: a request with a body doesn't come this far.
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
    """A redirect would have sent the request's body to an origin that isn't trusted."""


class Origin(NamedTuple):
    """Scheme, host and port (WHATWG HTML 7.1.1). A host that begins with ``*.`` stands for every name below it."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """Return the origin of a URL."""
        return cls(url.scheme, url.host, url.port or dict(_DEFAULT_PORTS).get(url.scheme))

    def covers(self, other: Origin) -> bool:
        """Whether the other is this origin, or one of those that this stands for."""
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
        first: the request as it was made.
        trusted: other origins that may have all that the first one gets.
    """

    def __init__(self, first: httpx.Request, trusted: Collection[Origin]) -> None:
        self._first = Origin.of(first.url)
        self._trusted = trusted
        self._has_left = False

    def follow(self, response: httpx.Response, redirected: httpx.Request) -> httpx.Request:
        """Return what to send next, made of what httpx would send.

        Raises:
            RedirectRefusedError: it would send a body where none may go.
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
    """Put back what httpx takes away where the origin changes. It has put in the client's cookies."""
    if "authorization" in request.headers:
        redirected.headers["authorization"] = request.headers["authorization"]


def _has_body(request: httpx.Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _body_refused(status: int, origin: Origin) -> str:
    return (
        f"a {status} redirect would send the request's body to another origin; if that is meant, write "
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
