# Guard: who may use the inspector, and from where. It checks every request, including those for the page's files.
#
# Rule 1: without `authorize` every request is refused, and only True lets a request through.
# Rule 2: the stream and the kicks are for the inspector's own page. On https and on localhost, a browser says where a
#         request comes from in `Sec-Fetch-Site`. Elsewhere it sends only `Origin`, which must be this host.
# Rule 3: an attacker's DNS server can point a name at this machine. For the browser that name is a separate host, and
#         the attacker's page has the same origin as the inspector (DNS rebinding). So the guard checks host names: only
#         those in the list are allowed, and without a list a client on this machine may not use a name that could be
#         an attacker's.

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.websockets import WebSocketClose

from .._arguments.checks import wrong
from .._requests.authorize import Authorize, check_allowed

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ("Guard", "check_hosts")

REFUSES_EVERYONE = (
    "Forbidden: stream_inspector() refuses everyone without authorize=. Give it a function of the request."
)
REFUSES_HOST = (
    "Forbidden: the inspector is not served under this host name. Give stream_inspector() the names that it is served "
    'under: allowed_hosts=["streams.example.org"].'
)
_HOSTS = 'a list of host names, such as ["streams.example.org"], or None'


class Guard:
    """Passes a request on to the application, or refuses it."""

    def __init__(self, app: ASGIApp, authorize: Authorize | None, allowed_hosts: Sequence[str] | None) -> None:
        self._app = app
        self._authorize = authorize
        self._allowed_hosts = None if allowed_hosts is None else frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request if it is allowed."""
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        request = Request(scope)
        if not self._is_allowed(request):
            raise HTTPException(403, REFUSES_HOST)
        await self._check(request)
        await self._app(scope, receive, send)

    def _is_allowed(self, request: Request) -> bool:
        host = _host_name(request)
        if self._allowed_hosts is not None:
            return host in self._allowed_hosts
        return request.client is None or not _is_loopback(request.client.host) or not _may_be_rebound(host)

    async def _check(self, request: Request) -> None:
        if self._authorize is None:
            raise HTTPException(403, REFUSES_EVERYONE)
        await check_allowed(self._authorize(request))


def check_hosts(hosts: object) -> None:
    """Raise TypeError for anything except a list of host names, or None."""
    if hosts is None:
        return
    if not isinstance(hosts, Sequence) or isinstance(hosts, (str, bytes)):
        raise wrong(TypeError, "allowed_hosts", _HOSTS, hosts)
    for host in cast("Sequence[object]", hosts):
        if not isinstance(host, str):
            raise wrong(TypeError, "allowed_hosts", _HOSTS, host)


def _host_name(request: Request) -> str:
    try:
        return (urlsplit(f"//{request.headers.get('host', '')}").hostname or "").rstrip(".")
    except ValueError:  # brackets without a partner
        return ""


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _may_be_rebound(host: str) -> bool:
    # An attacker's DNS server answers for a domain, which is a name with a dot. `localhost` and names below it never
    # leave this machine (RFC 6761 section 6.3), and an address is not looked up.
    if "." not in host or host.endswith(".localhost"):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False
