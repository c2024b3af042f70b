# One request for an event stream with httpx, and the head of its answer. Bodies are client/_body.py's.
#
# Rule 1: the request is made anew for every connection, from the URL that the caller gave, with everything the caller
#         gave. Redirects are followed from there each time (WHATWG HTML 9.2.3).
# Rule 2: client/_redirects.py decides what a redirected request carries, so that nothing secret reaches another origin.
# Rule 3: a response that isn't handed on is closed, and closing isn't interrupted by a cancellation.

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import httpx

from ._arguments import InvalidURLError
from ._body import close
from ._caller_headers import CallerHeaders
from ._http2 import Http2Watch
from ._network_errors import tls_as_httpx
from ._query import merged_query
from ._redirects import Origin, Redirects

__all__ = ("StreamRequest",)

# WHATWG URL 3.1, "forbidden domain code point", as far as httpx leaves them: it has percent-encoded most.
_FORBIDDEN_IN_HOST = frozenset("%<>^|\\ ")
# Control characters, which an id may have and a header's value must not (WHATWG HTML 9.2.6; RFC 9110, 5.5). Browsers
# send all but NUL, as Fetch's "header value" allows. Much that is between us and an application doesn't: h11 refuses to
# send VT and FF, llhttp answers any with 400. One such id would be the end of the stream, so it isn't sent: the server
# begins as for a client that has none, and the caller sees from the events what came again.
_NOT_IN_HEADERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


# No repr(), which a traceback may show: of all this, anything may be secret.
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StreamRequest:
    """What every connection asks for."""

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
        """Method and URL without what may be secret, for messages."""
        url = self.client.build_request(self.method, self.url).url
        return f"{self.method} {url.copy_with(username=None, password=None, query=None, fragment=None)}"

    def check(self) -> None:
        """Raise what is wrong with the request already, before anything is sent.

        Raises:
            InvalidURLError: the URL is none. httpx itself lets hosts pass that WHATWG URL forbids, such as "a b", and
                those that no name server could have, such as "a..b".
            TypeError: the body can't be written as JSON.
            ValueError: likewise.
        """
        url = self.build("", httpx.Headers()).url
        if not _FORBIDDEN_IN_HOST.isdisjoint(url.host) or not _can_be_resolved(url):
            raise InvalidURLError("Invalid host")

    def build(self, last_event_id: str, given: httpx.Headers) -> httpx.Request:
        """Return the request of a connection that goes on after ``last_event_id``, with the caller's headers."""
        headers = httpx.Headers({"accept": "text/event-stream", "cache-control": "no-cache"})
        headers.update(given)
        if last_event_id:
            headers.pop("last-event-id", None)  # the caller's: that of a place which is behind us
            # Surrounding blanks are no part of a header's value, and h11 refuses to send them.
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
            # Silence is no fault of an event stream. What is one, is the business of `idle_timeout`.
            timeout=httpx.Timeout(timeout.connect, read=None, write=timeout.write, pool=timeout.pool),
            extensions={"trace": self.http2.trace},
        )
        # build_request() puts the client's parameters in the place of the URL's own.
        query = merged_query(self.url.query, self.client.params, self.params)
        request.url = request.url.copy_with(query=query or None)
        return request

    async def send(self, last_event_id: str, headers: httpx.Headers) -> httpx.Response:
        """Send it, follow redirects, and return the response with its body unread.

        Raises:
            httpx.TransportError: there was no response.
            RedirectRefusedError: a redirect would send the body to another origin.
        """
        with tls_as_httpx():
            return await self._send(last_event_id, headers)

    async def _send(self, last_event_id: str, headers: httpx.Headers) -> httpx.Response:
        request = self.build(last_event_id, headers)
        redirects = Redirects(request, self.trusted_origins)
        response = await self.client.send(request, stream=True, follow_redirects=False)
        for _ in range(self.client.max_redirects):
            # An empty Location would be the same URL again, until the redirects are used up.
            if response.next_request is None or not response.headers["location"].strip():
                break
            await close(response)
            request = redirects.follow(response, response.next_request)
            if not _can_be_resolved(request.url):  # httpx would raise UnicodeError
                raise httpx.RemoteProtocolError(f"Invalid host in Location: {request.url.host!r}", request=request)
            # Without the client's auth, which is for the first origin. What it made is among the headers.
            response = await self.client.send(request, stream=True, auth=None, follow_redirects=False)
        return response


def _can_be_resolved(url: httpx.URL) -> bool:
    """Whether socket.getaddrinfo() takes its host: it raises UnicodeError for a label that is empty or too long."""
    try:
        url.raw_host.decode("ascii").encode("idna")
    except UnicodeError:
        return False
    return True
