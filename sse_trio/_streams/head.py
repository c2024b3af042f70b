# The head of a stream: its status and headers, its content coding, what is written with it.
#
# Rule 1: headers of the user's win. The defaults keep a stream from caches, from proxies that hold it back, and from
#         pages of other sites.
# Rule 2: a coding is chosen by RFC 9110, section 12.5.3, and never where `no-transform` forbids it.

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from .._compression.accept_encoding import choose_coding, forbids_transform
from .._wire.event import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Message, Scope

    from .._compression.codings import Coding
    from .._groups.run import GroupState
    from .options import StreamOptions

__all__ = ("COMPRESSED_RAW_HEADERS", "RAW_HEADERS", "negotiate", "new_head", "opening_notices")

RETRY = 3000
"""Milliseconds: the default of EventSource. Sent in groups that sent a different `retry` at a shutdown."""

RAW_HEADERS = (
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-type", b"text/event-stream; charset=utf-8"),
)
# nosniff: `data: ...` is a labelled statement in JavaScript. Without nosniff, a page could load a stream with other
# people's data as a script of this origin, which script-src 'self' allows (Fetch standard, "X-Content-Type-Options").
# no-transform: a proxy that compresses, such as Express' `compression` or a CDN, holds events back until it has enough.
# no-transform tells it to leave them alone (RFC 9110 section 7.7). It would also forbid our own compression.
COMPRESSED_RAW_HEADERS = ((b"cache-control", b"no-store"), *RAW_HEADERS[1:])


def new_head(scope: Scope, status: int, headers: list[tuple[bytes, bytes]]) -> Message:
    """Return the first message of the response."""
    prefix = "websocket." if scope["type"] == "websocket" else ""
    return {"type": f"{prefix}http.response.start", "status": status, "headers": headers}


def negotiate(scope: Scope, head: Message, compress: Sequence[Coding]) -> Coding | None:
    """Choose the coding for this request, and add its headers to the head; None for no compression."""
    # HEAD is answered with the same fields as GET (RFC 9110 section 9.3.2).
    headers, request = MutableHeaders(raw=head["headers"]), Headers(scope=scope)
    if "content-encoding" in headers or forbids_transform(headers.getlist("cache-control")):
        return None
    headers.add_vary_header("Accept-Encoding")
    if forbids_transform(request.getlist("cache-control")):
        return None
    coding = choose_coding(request.getlist("accept-encoding"), compress)
    if coding is not None:
        headers["content-encoding"] = coding
    return coding


def opening_notices(options: StreamOptions, group: GroupState) -> bytes:
    """Return what is written before the first event: the time to reconnect."""
    retry = options.retry
    if retry is None and group.reconnect_within is not None:
        retry = RETRY
    return b"" if retry is None else ServerSentEvent(retry=retry).encode(options.sep)
