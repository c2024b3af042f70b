# open_event_source(): an EventSource for programs, on trio and on asyncio. Needs httpx, the extra `client`.
#
# Rule 1: this file is what users see: the arguments and what they mean. client/_arguments.py checks them before
#         anything is sent.
#
#   _event_source.py     EventSource, the user's handle
#   _iteration.py        its steps: wait, connect, read
#   _connector.py        one connection after another; _verdicts.py, _reconnect.py: what follows when one ends
#   _state.py            what the handle shows; _received.py: the events that wait to be returned
#   _request.py          the request and its redirects (_redirects.py), headers (_caller_headers.py), query (_query.py)
#   _body.py             the body, decompressed (_decompression.py, _codecs.py); _answer.py: one that is not a stream
#   _http2.py            what leaving an HTTP/2 connection takes; _httpcore.py: what httpcore keeps private
#   _opening.py          what a cancelled request leaves over HTTP/1.1
#   _interruptible.py    a wait that another task can end; _lasting.py: one that outlives a timeout

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Container, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import httpx

from .._errors import EventSourceError
from .._wire.decoder import EventDecoder
from ._arguments import (
    check_answers,
    check_connection,
    check_function,
    check_reconnection,
    checked_origins,
    checked_params,
    checked_url,
)
from ._caller_headers import CallerHeaders, HeaderMapping, HeaderSource
from ._event_source import EventSource
from ._http2 import Http2Watch
from ._iteration import Iteration
from ._options import EventSourceOptions
from ._reconnect import RETRY_STATUSES, Backoff
from ._request import StreamRequest
from ._state import ConnectionState

__all__ = ("ConnectionState", "EventSource", "EventSourceError", "open_event_source")


@asynccontextmanager
async def open_event_source(
    url: str | httpx.URL,
    *,
    client: httpx.AsyncClient | None = None,
    method: str = "GET",
    headers: HeaderMapping | HeaderSource | None = None,
    params: Mapping[str, str | int | float | bool | None] | httpx.QueryParams | None = None,
    json: object = None,
    content: str | bytes | None = None,
    last_event_id: str = "",
    reconnect: bool | None = None,
    retry: float = 3.0,
    max_retry: float = 60.0,
    idle_timeout: float | None = None,
    head_timeout: float | None = 120.0,
    max_event_size: int = 1_048_576,
    skip_too_large: bool = False,
    take_unfinished: bool = False,
    max_answer_size: int = 1_048_576,
    accept: Callable[[httpx.Response], bool] | None = None,
    retry_statuses: Container[int] = RETRY_STATUSES,
    trusted_origins: Collection[str] = (),
    on_state_change: Callable[[EventSource], object] | None = None,
) -> AsyncGenerator[EventSource, None]:
    """Connect to an event stream, and connect again when it breaks, as an ``EventSource`` does in a browser.

    ::

        async with open_event_source("https://example.org/clock") as source:
            async for event in source:
                print(event.data)

    It waits for the first stream, that is for a 200 with ``text/event-stream``; `source.response` is that response. If
    the server can't be reached, it tries again, before the first stream too: bound the wait with ``fail_after()``. It
    raises what it doesn't retry: an answer that is final, and everything if `reconnect` is off.

    Connecting again follows WHATWG HTML 9.2.3: after the reconnection time, which the server may set, with the id of
    the last event in ``Last-Event-ID``, and never after a 204. The wait is at least 0.1 seconds, at least what
    ``Retry-After`` says, and up to a fifth longer than the server asked for, so that clients don't all come back at
    once. After failed connections in a row, the wait grows exponentially with full jitter. A connection failed if it
    gave no byte, or if it ended within 10 seconds without an event.

    Args:
        url: where the stream is. Each connection follows redirects from there anew; see `trusted_origins`.
        client: an httpx client with what the connection needs: base URL, authentication, proxies, cookies, HTTP/2.
            It stays open. Its read timeout is not used, see `idle_timeout`. By default, one is made.
        method: the HTTP method.
        headers: sent with every request. They win over the default ``accept`` and ``cache-control``. Or a function,
            plain or async, that returns them: it is called before each attempt, so a token in them is never stale.
            After a 401 it is called once more, and the request sent again at once. What it raises comes out of the
            iteration, but an ``httpx.TransportError`` counts as a failed attempt.
        params: added to the URL's query and the client's own parameters. They win over those of the same name.
        json: the request's body, as JSON; sent with every request.
        content: the request's body, unchanged; sent with every request.
        last_event_id: the id to go on from, as if an earlier connection had received it. An id with control
            characters other than a tab is kept, but not sent, because an HTTP header can't carry it.
        reconnect: whether to connect again. By default with GET only: a POST that starts something shouldn't start
            it twice.
        retry: the reconnection time until the server sets one, in seconds. The server may ask for up to 6 hours.
        max_retry: the longest wait that failed connections lead to, in seconds. If the server asks for a longer wait,
            by ``retry`` or ``Retry-After``, that wait counts.
        idle_timeout: a connection counts as dead when nothing has come for this long, in seconds. Twice the server's
            ping interval is a good value. By default, a connection may be silent for ever.
        head_timeout: how long a connection may take to its answer, in seconds, connecting and redirects included;
            `idle_timeout` counts as well. ``None`` waits for ever.
        max_event_size: in bytes, see :class:`EventDecoder`.
        skip_too_large: skip events that are larger and go on; see :attr:`EventSource.skipped`. By default, such an
            event is an error.
        take_unfinished: return a last event whose blank line is missing, if the response ends in order. The standard
            drops it.
        max_answer_size: how many bytes of an answer that is not a stream are kept for the error.
        accept: called as ``accept(response)`` with an answer that is neither a 200 with ``text/event-stream`` nor a
            204. If it returns True, the answer is read as a stream. It may look at the status and the headers only.
        retry_statuses: the statuses after which to try again. If empty, only broken connections are made again, as in
            a browser.
        trusted_origins: the origins that a redirect may take everything to, such as ``["https://stream.example.org"]``
            or ``["https://*.example.org"]``. An origin that is neither that of `url` nor trusted gets no
            ``Last-Event-ID``, no cookies, no credentials, and of your headers only harmless ones such as ``accept``; a
            redirect that would send a body there is an error.
        on_state_change: called as ``on_state_change(source)`` before each attempt to connect and with its outcome. It
            must not block. What it raises comes out of the iteration.

    Checkpoint: always. Cancellation: the connection is closed, at any point, and nothing is left behind.

    Raises:
        EventSourceError: the server's answer is final and not an event stream (see the error's ``response``), or the
            server can't be reached and reconnecting is off, or a certificate was refused.
        TypeError: an argument is not of the right type.
        ValueError: an argument has a wrong value; for `url`, the error is an ``httpx.InvalidURL``, too.
    """
    check_connection(client, method, content, json, last_event_id)
    check_reconnection(reconnect, retry, max_retry, idle_timeout, retry_statuses)
    check_answers(head_timeout, max_answer_size, accept, take_unfinished)
    check_function("on_state_change", on_state_change)
    EventDecoder(max_event_size=max_event_size, skip_too_large=skip_too_large)  # checks these two
    async with AsyncExitStack() as stack:
        if client is None:
            client = await stack.enter_async_context(httpx.AsyncClient())
        request = StreamRequest(
            client=client,
            method=method,
            url=checked_url(url),
            params=checked_params(params),
            headers=CallerHeaders(headers),
            content=content,
            json=json,
            trusted_origins=checked_origins(trusted_origins),
            http2=Http2Watch(client),
        )
        request.check()
        options = EventSourceOptions(
            reconnect=method.upper() == "GET" if reconnect is None else reconnect,
            idle_timeout=idle_timeout,
            head_timeout=head_timeout,
            max_event_size=max_event_size,
            skip_too_large=skip_too_large,
            take_unfinished=take_unfinished,
            max_answer_size=max_answer_size,
            accept=accept,
            retry_statuses=retry_statuses,
        )
        iteration = Iteration(request, Backoff(retry, max_retry), options, last_event_id)
        source = EventSource(iteration)
        if on_state_change is not None:
            iteration.state.on_change = partial(on_state_change, source)
        try:
            await iteration.open()
            yield source
        finally:
            await iteration.aclose()
