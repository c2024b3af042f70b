# Who may use the inspector, and from where: asked about each request, the page's files and its stream included.
#
# Rule 1: nobody is let in, to nothing, until `authorize` has said who may; only True lets a request through.
# Rule 2: the stream and the kicks are for the inspector's own page. A browser says where a request comes from in
#         `Sec-Fetch-Site`, on https and on localhost; elsewhere `Origin` is all that it says, and has to be this host.
# Rule 3: a name that an attacker's DNS server points at this machine is a host of its own to the browser, and its page
#         has the same origin as the inspector (DNS rebinding). So hosts are checked: only those that are allowed, and
#         without a list of them, a client on this machine may not use a name that could be an attacker's.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.websockets import WebSocketClose

from .._arguments.checks import wrong

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ("Authorize", "Guard", "check_hosts", "check_same_origin")

Authorize: TypeAlias = Callable[[Request], bool | Awaitable[bool]]
"""Says whether the request is one of somebody who may."""

REFUSES_EVERYONE = (
    "Forbidden: stream_inspector() refuses everyone until it is told who may look on. "
    "Give it authorize=, a function of the request."
)
REFUSES_HOST = (
    "Forbidden: the inspector is not served under this host name. Give stream_inspector() the names that it is served "
    'under: allowed_hosts=["streams.example.org"].'
)
_HOSTS = 'a list of host names, such as ["streams.example.org"], or None'


class Guard:
    """Asks whether a request may go on."""

    def __init__(self, app: ASGIApp, authorize: Authorize | None, allowed_hosts: Sequence[str] | None) -> None:
        self._app = app
        self._authorize = authorize
        self._allowed_hosts = None if allowed_hosts is None else frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request if it may."""
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
        allowed = self._authorize(request)
        if isawaitable(allowed):
            allowed = await allowed
        if allowed is not True:
            raise HTTPException(403)


def check_hosts(hosts: object) -> None:
    """Raise for what is not a list of host names, or None."""
    if hosts is None:
        return
    if not isinstance(hosts, Sequence) or isinstance(hosts, (str, bytes)):
        raise wrong(TypeError, "allowed_hosts", _HOSTS, hosts)
    for host in cast("Sequence[object]", hosts):
        if not isinstance(host, str):
            raise wrong(TypeError, "allowed_hosts", _HOSTS, host)


def check_same_origin(request: Request, *, default: str, why: str) -> None:
    """Raise HTTPException(403) for a request that a browser sends for another origin.

    Args:
        request: the request.
        default: which `Sec-Fetch-Site` counts as this origin, beside ``same-origin``.
        why: the detail of the 403.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        same = site in {"same-origin", default}
    else:
        same = origin is None or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
    if not same:
        raise HTTPException(403, why)


def _host_name(request: Request) -> str:
    try:
        return (urlsplit(f"//{request.headers.get('host', '')}").hostname or "").rstrip(".")
    except ValueError:  # brackets that don't match
        return ""


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _may_be_rebound(host: str) -> bool:
    # An attacker's DNS server answers for a domain: a name with a dot. `localhost` and names below it never leave this
    # machine (RFC 6761 section 6.3), and an address is not looked up.
    if "." not in host or host.endswith(".localhost"):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False
