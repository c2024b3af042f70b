# open_event_source(): an EventSource for programs, on trio and on asyncio. Needs httpx, the extra `client`.
#
# Rule 1: this file is what users see: the arguments and what they mean. Whether they make sense is checked in
#         client/_arguments.py, before anything is sent; how it is done stands in client/_event_source.py.

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Container, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from .._errors import EventSourceError
from .._wire.decoder import EventDecoder
from ._arguments import (
    check_body,
    check_bool,
    check_client,
    check_event_id,
    check_function,
    check_method,
    check_seconds,
    check_size,
    check_statuses,
    checked_origins,
    checked_params,
    checked_url,
)
from ._caller_headers import CallerHeaders, HeaderMapping, HeaderSource
from ._event_source import ConnectionState, EventSource, EventSourceOptions
from ._http2 import Http2Watch
from ._reconnect import RETRY_STATUSES, Backoff
from ._request import StreamRequest

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
    """Connect to an event stream, and keep connecting when it breaks, as an ``EventSource`` does in a browser.

    ::

        async with open_event_source("https://example.org/clock") as source:
            async for event in source:
                print(event.data)

    It waits for the first stream, that is for a 200 with ``text/event-stream``; `source.response` is that response. A
    server that can't be reached is tried again, at this point too: bound the wait with ``fail_after()``. What is not
    retried is raised: an answer that is final, and everything if `reconnect` is off.

    Connecting again follows WHATWG HTML 9.2.3: after the reconnection time, which the server may set, with the id of
    the last event in ``Last-Event-ID``, and not at all after a 204. The wait is at least 0.1 seconds, at least what
    ``Retry-After`` says, and up to a fifth longer than asked for, so that clients don't all come back at once. Failed
    connections in a row are backed off from, exponentially with full jitter. A connection failed if it gave no byte,
    or if it ended within 10 seconds without an event.

    Args:
        url: where the stream is. Redirects are followed, from there anew for each connection; see `trusted_origins`.
        client: an httpx client with what the connection needs: base URL, authentication, proxies, cookies, HTTP/2.
            It stays open. Its read timeout is not used, see `idle_timeout`. By default, one is made.
        method: the HTTP method.
        headers: sent with every request. They win over ``accept`` and ``cache-control`` of ours. Or a function, plain
            or async, that returns them: it is called before each attempt, so a token in them is never stale. After a
            401 it is called once more, and the request sent again at once. What it raises comes out of the iteration,
            but an ``httpx.TransportError`` counts as a failed attempt.
        params: added to the URL's query and the client's own parameters. Of the same name, these win.
        json: the request's body, as JSON; sent with every request.
        content: the request's body, as it is; sent with every request.
        last_event_id: the id to go on from, as if an earlier connection had received it. One with control characters
            other than a tab is kept, but goes into no header, as HTTP has no place for it.
        reconnect: whether to connect again. By default with GET only: a POST that starts something shouldn't start
            it twice.
        retry: the reconnection time until the server sets one, in seconds. The server's is followed up to 6 hours.
        max_retry: how far failed connections make the wait grow, in seconds. A longer wait that the server asks for,
            by ``retry`` or ``Retry-After``, is followed all the same.
        idle_timeout: how long nothing at all may come, in seconds, before a connection counts as dead. Twice the
            server's ping interval is a good value. By default, for ever.
        head_timeout: how long a connection may take to its answer, in seconds, connecting and redirects included;
            `idle_timeout` counts as well. ``None`` waits for ever.
        max_event_size: in bytes, see :class:`EventDecoder`.
        skip_too_large: go on after an event that is larger, without it; see :attr:`EventSource.skipped`. By default, it
            is an error.
        take_unfinished: return a last event whose blank line is missing, if the response ends in order. The standard
            has it dropped.
        max_answer_size: how much of an answer that isn't a stream is kept for the error, in bytes.
        accept: called as ``accept(response)`` with an answer that isn't a 200 with ``text/event-stream``, nor a 204. If
            it returns True, the answer is a stream all the same. It must look at the status and the headers only.
        retry_statuses: the answers that don't end it. Empty, it is as in a browser, where only broken connections are
            made again.
        trusted_origins: where a redirect may take everything, such as ``["https://stream.example.org"]`` or
            ``["https://*.example.org"]``. At any other origin than that of `url` arrive no ``Last-Event-ID``, no
            cookies, no credentials and none of your headers but the likes of ``accept``; a redirect that would send a
            body there is an error.
        on_state_change: called as ``on_state_change(source)`` before each attempt to connect and with its outcome. It
            must not block. What it raises comes out of the iteration.

    Checkpoint: always. Cancellation: the connection is closed, at any point, and nothing is left behind.

    Raises:
        EventSourceError: what the server answered is final and no event stream (its ``response`` says more), or
            nothing was reached and reconnecting is off, or a certificate was refused.
        TypeError: an argument is not of the right type.
        ValueError: an argument makes no sense; for `url`, it is an ``httpx.InvalidURL``, too.
    """
    _check_connection(client, method, content, json, last_event_id)
    _check_reconnection(reconnect, retry, max_retry, idle_timeout, retry_statuses)
    _check_answers(head_timeout, max_answer_size, accept, take_unfinished)
    check_function("on_state_change", on_state_change)
    EventDecoder(max_event_size=max_event_size, skip_too_large=skip_too_large)  # refuses what makes no sense
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
            on_state_change=on_state_change,
        )
        source = EventSource(request, Backoff(retry, max_retry), last_event_id, options)
        try:
            await source._open()  # noqa: SLF001 -- the one class, in two files
            yield source
        finally:
            await source._close()  # noqa: SLF001


def _check_connection(client: object, method: object, content: object, json: object, last_event_id: object) -> None:
    check_client(client)
    check_method(method)
    check_body(content, json)
    check_event_id(last_event_id)


def _check_reconnection(
    reconnect: object, retry: object, max_retry: object, idle_timeout: object, retry_statuses: object
) -> None:
    check_bool("reconnect", reconnect, none="GET only")
    check_seconds("retry", retry, zero=True)
    check_seconds("max_retry", max_retry, zero=True)
    check_seconds("idle_timeout", idle_timeout, zero=False, none="waits for ever")
    check_statuses(retry_statuses)


def _check_answers(head_timeout: object, max_answer_size: object, accept: object, take_unfinished: object) -> None:
    check_seconds("head_timeout", head_timeout, zero=False, none="waits for ever")
    check_size("max_answer_size", max_answer_size)
    check_function("accept", accept)
    check_bool("take_unfinished", take_unfinished)
