# One request for an event stream with httpx, and the head of its answer. Bodies are _body.py's.
#
# Rule 1: the request is made anew for every connection, from the URL that the caller gave, with everything the caller
#         gave. Redirects are followed from there each time (WHATWG HTML 9.2.3).
# Rule 2: httpx's own rules decide what a redirected request carries, so credentials don't reach another origin.
# Rule 3: a response that isn't handed on is closed, and closing isn't interrupted by a cancellation.

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from ._body import close
from ._http2 import Http2Watch

__all__ = ("StreamRequest",)

# WHATWG URL 3.1, "forbidden domain code point", as far as httpx leaves them: it has percent-encoded most.
_FORBIDDEN_IN_HOST = frozenset("%<>^|\\ ")
# Control characters, which an id may have and a header's value must not (WHATWG HTML 9.2.6; RFC 9110, 5.5). Browsers
# send all but NUL, as Fetch's "header value" allows. Much that is between us and an application doesn't: h11 refuses to
# send VT and FF, llhttp answers any with 400. One such id would be the end of the stream, so it isn't sent: the server
# begins as for a client that has none, and the caller sees from the events what came again.
_NOT_IN_HEADERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What every connection asks for."""

    client: httpx.AsyncClient
    method: str
    url: httpx.URL | str
    params: httpx.QueryParams | Mapping[str, str | int | float | bool | None] | None
    headers: httpx.Headers
    content: str | bytes | None
    json: object
    http2: Http2Watch

    @property
    def description(self) -> str:
        """Method and URL without what may be secret, for messages."""
        return f"{self.method} {self.build('').url.copy_with(username=None, password=None, query=None, fragment=None)}"

    def check(self) -> None:
        """Raise what is wrong with the request already, before anything is sent.

        Raises:
            httpx.InvalidURL: the URL is none. httpx itself lets hosts pass that WHATWG URL forbids, such as "a b", and
                those that no name server could have, such as "a..b".
        """
        url = self.build("").url
        if not _FORBIDDEN_IN_HOST.isdisjoint(url.host) or not _can_be_resolved(url):
            raise httpx.InvalidURL(f"Invalid host in URL: {str(self.url)!r}")

    def build(self, last_event_id: str) -> httpx.Request:
        """Return the request of a connection that goes on after ``last_event_id``."""
        headers = httpx.Headers({"accept": "text/event-stream", "cache-control": "no-cache"})
        headers.update(self.headers)
        if last_event_id:
            headers.pop("last-event-id", None)  # the caller's: that of a place which is behind us
            # Surrounding blanks are no part of a header's value, and h11 refuses to send them.
            value = last_event_id.encode().strip(b" \t")
            if not _NOT_IN_HEADERS.search(value):
                headers.update([(b"last-event-id", value)])
        timeout = self.client.timeout
        return self.client.build_request(
            self.method,
            self.url,
            params=self.params,
            headers=headers,
            content=self.content,
            json=self.json,
            # Silence is no fault of an event stream. What is one, is the business of `idle_timeout`.
            timeout=httpx.Timeout(timeout.connect, read=None, write=timeout.write, pool=timeout.pool),
            extensions={"trace": self.http2.trace},
        )

    async def send(self, last_event_id: str) -> httpx.Response:
        """Send it, follow redirects, and return the response with its body unread.

        Raises:
            httpx.TransportError: there was no response.
        """
        response = await self.client.send(self.build(last_event_id), stream=True, follow_redirects=False)
        for _ in range(self.client.max_redirects):
            # An empty Location would be the same URL again, until the redirects are used up.
            if response.next_request is None or not response.headers["location"].strip():
                break
            await close(response)
            request = response.next_request
            if not _can_be_resolved(request.url):  # httpx would raise UnicodeError
                raise httpx.RemoteProtocolError(f"Invalid host in location header: {request.url}", request=request)
            # Without the client's auth: the headers that it made are kept or dropped by httpx as the origin demands.
            response = await self.client.send(request, stream=True, auth=None, follow_redirects=False)
        return response


def _can_be_resolved(url: httpx.URL) -> bool:
    """Whether socket.getaddrinfo() takes its host: it raises UnicodeError for a label that is empty or too long."""
    try:
        url.raw_host.decode("ascii").encode("idna")
    except UnicodeError:
        return False
    return True
