# One request for an event stream with httpx, and the head of its answer. Bodies are client/_body.py's.
#
# Rule 1: every connection makes the request anew, from the caller's URL and with everything the caller gave. It follows
#         redirects from there each time (WHATWG HTML 9.2.3).
# Rule 2: client/_redirects.py decides what a redirected request carries, so that nothing secret reaches another origin.
# Rule 3: a response that isn't returned is closed, and a cancellation doesn't interrupt that.

from __future__ import annotations

import re
from collections.abc import Awaitable, Collection
from dataclasses import dataclass

import httpx

from ._arguments import InvalidURLError
from ._body import ClosingStream, close
from ._caller_headers import CallerHeaders
from ._http2 import Http2Watch
from ._network_errors import as_httpx
from ._query import merged_query
from ._redirects import Origin, Redirects

__all__ = ("StreamRequest",)

# WHATWG URL 3.1, "forbidden domain code point": those that httpx doesn't percent-encode.
_FORBIDDEN_IN_HOST = frozenset("%<>^|\\ ")
_LAST_PORT = 65_535
# Control characters: an id may have them, a header's value must not (WHATWG HTML 9.2.6; RFC 9110, 5.5). Browsers send
# all but NUL, as Fetch's "header value" allows. Software between us and the application doesn't: h11 refuses to send VT
# and FF, llhttp answers any of them with 400. Sending such an id would end the stream for good, so it isn't sent: the
# server begins as for a new client, and the caller sees from the events what was repeated.
_NOT_IN_HEADERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


# No repr(): a traceback may show it, and any field may hold a secret.
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StreamRequest:
    """The request of every connection."""

    client: httpx.AsyncClient
    method: str
    url: httpx.URL
    params: httpx.QueryParams
    headers: CallerHeaders
    content: str | bytes | None
    json: object
    trusted_origins: Collection[Origin]
    http2: Http2Watch

    @property
    def description(self) -> str:
        """Method and URL for messages, without the parts that may be secret."""
        url = self.client.build_request(self.method, self.url).url
        return f"{self.method} {url.copy_with(username=None, password=None, query=None, fragment=None)}"

    def check(self) -> None:
        """Raise errors of the request before anything is sent.

        Raises:
            InvalidURLError: the URL is not valid. httpx itself accepts hosts that WHATWG URL forbids, such as "a b",
                hosts that no name server can know, such as "a..b", and ports that there are not, such as 65536.
            TypeError, ValueError: the body can't be written as JSON.
        """
        if not _can_be_reached(self.build("", httpx.Headers()).url):
            raise InvalidURLError("Invalid host or port")

    def build(self, last_event_id: str, given: httpx.Headers) -> httpx.Request:
        """Return the request of a connection that goes on after ``last_event_id``, with the caller's headers."""
        headers = httpx.Headers({"accept": "text/event-stream", "cache-control": "no-cache"})
        headers.update(given)
        if last_event_id:
            headers.pop("last-event-id", None)  # the caller's, which is outdated
            # Surrounding blanks are not part of a header's value, and h11 refuses to send them.
            value = last_event_id.encode().strip(b" \t")
            if not _NOT_IN_HEADERS.search(value):
                headers.update([(b"last-event-id", value)])
        timeout = self.client.timeout
        request = self.client.build_request(
            self.method,
            self.url,
            headers=headers,
            content=self.content,
            json=self.json,
            # Silence is normal for an event stream. `idle_timeout` says when it is too long.
            timeout=httpx.Timeout(timeout.connect, read=None, write=timeout.write, pool=timeout.pool),
            extensions={"trace": self.http2.trace},
        )
        # build_request() replaces the URL's own parameters by the client's.
        query = merged_query(self.url.query, self.client.params, self.params)
        request.url = request.url.copy_with(query=query or None)
        return request

    async def send(self, last_event_id: str, headers: httpx.Headers) -> httpx.Response:
        """Send the request, follow redirects, and return the response with its body unread.

        Raises:
            httpx.TransportError: there was no response.
            RedirectRefusedError: a redirect would send the body to another origin.
        """
        try:
            with as_httpx():
                return await self._send(last_event_id, headers)
        except BaseException:
            await self.http2.send_failed()
            raise

    async def _send(self, last_event_id: str, headers: httpx.Headers) -> httpx.Response:
        request = self.build(last_event_id, headers)
        redirects = Redirects(request, self.trusted_origins)
        response = await _answer_to(request, self.client.send(request, stream=True, follow_redirects=False))
        for _ in range(self.client.max_redirects):
            # An empty Location would lead to the same URL again, until the redirects are used up.
            if response.next_request is None or not response.headers["location"].strip():
                break
            await close(response)
            request = redirects.follow(response, response.next_request)
            if not _can_be_reached(request.url):  # httpx would raise errors that are not its own
                place = request.url.netloc.decode("ascii")  # without the user and the password
                raise httpx.RemoteProtocolError(f"Invalid host or port in Location: {place!r}", request=request)
            # Without the client's auth, which is for the first origin. The headers that it made are there already.
            sent = self.client.send(request, stream=True, auth=None, follow_redirects=False)
            response = await _answer_to(request, sent)
        return response


async def _answer_to(request: httpx.Request, sent: Awaitable[httpx.Response]) -> httpx.Response:
    try:
        response = await sent
    except httpx.HTTPStatusError as exc:
        if exc.response.request is not request:
            raise
        return exc.response  # a hook of the client calls raise_for_status(); we judge the status ourselves
    assert isinstance(response.stream, httpx.AsyncByteStream)
    response.stream = ClosingStream(response.stream)
    return response


def _can_be_reached(url: httpx.URL) -> bool:
    """Whether the standard allows its host, socket.getaddrinfo() takes host and port, and httpx can read the host.

    getaddrinfo() raises UnicodeError for a label that is empty or too long, and OverflowError for a port above 65535;
    httpx's ``host`` raises UnicodeError for a label that is no Punycode, such as "xn--".
    """
    try:
        url.raw_host.decode("ascii").encode("idna")
        is_allowed = _FORBIDDEN_IN_HOST.isdisjoint(url.host)
    except UnicodeError:
        return False
    return is_allowed and (url.port or 0) <= _LAST_PORT
