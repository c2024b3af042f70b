# open_event_source(): an EventSource for programs, on trio and on asyncio. Needs httpx, the extra `client`.
#
# Rule 1: this file is what users see: the arguments, what they mean, and whether they make sense. How it is done stands
#         in _event_source.py.

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Container, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from ._errors import EventSourceError
from ._event_source import ConnectionState, EventSource, EventSourceOptions
from ._http2 import Http2Watch
from ._reconnect import RETRY_STATUSES, Backoff
from ._request import StreamRequest

__all__ = ("ConnectionState", "EventSource", "EventSourceError", "open_event_source")

# WHATWG HTML 9.2.6: lines end at these, and an id with a NUL is ignored.
_NOT_IN_IDS = frozenset("\r\n\0")


@asynccontextmanager
async def open_event_source(
    url: str | httpx.URL,
    *,
    client: httpx.AsyncClient | None = None,
    method: str = "GET",
    headers: Mapping[str, str] | httpx.Headers | None = None,
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
    the last event in ``Last-Event-ID``, and not at all after a 204. Connections in a row that gave no event are backed
    off from, exponentially with full jitter. ``Retry-After`` is followed instead, up to 6 hours.

    Args:
        url: where the stream is. Redirects are followed, from there anew for each connection.
        client: an httpx client with what the connection needs: base URL, authentication, proxies, cookies, HTTP/2.
            It stays open. Its read timeout is not used, see `idle_timeout`. By default, one is made.
        method: the HTTP method.
        headers: sent with every request. They win over ``accept`` and ``cache-control`` of ours.
        params: added to the URL's query.
        json: the request's body, as JSON; sent with every request.
        content: the request's body, as it is; sent with every request.
        last_event_id: the id to go on from, as if an earlier connection had received it. One with control characters
            other than a tab is kept, but goes into no header, as HTTP has no place for it.
        reconnect: whether to connect again. By default with GET only: a POST that starts something shouldn't start
            it twice.
        retry: the reconnection time until the server sets one, in seconds.
        max_retry: the longest wait before connecting again, in seconds, but for a ``Retry-After``.
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
        on_state_change: called as ``on_state_change(source)`` before each attempt to connect and with its outcome. It
            must not block. What it raises comes out of the iteration.

    Checkpoint: always. Cancellation: the connection is closed, at any point, and nothing is left behind.

    Raises:
        EventSourceError: what the server answered is final and no event stream (its ``response`` says more), or
            nothing was reached and reconnecting is off.
        ValueError: an argument makes no sense.
        httpx.InvalidURL: neither does the URL.
    """
    _check_answers(head_timeout, max_answer_size)
    _check(retry=retry, max_retry=max_retry, idle_timeout=idle_timeout, last_event_id=last_event_id)
    async with AsyncExitStack() as stack:
        if client is None:
            client = await stack.enter_async_context(httpx.AsyncClient())
        request = StreamRequest(
            client=client,
            method=method,
            url=url,
            params=params,
            headers=httpx.Headers(headers),
            content=content,
            json=json,
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


def _check(*, retry: float, max_retry: float, idle_timeout: float | None, last_event_id: str) -> None:
    for name, seconds in (("retry", retry), ("max_retry", max_retry)):
        if not seconds >= 0:
            raise ValueError(f"{name} must be 0 or more seconds, not {seconds!r}")
    if idle_timeout is not None and not idle_timeout > 0:
        raise ValueError(f"idle_timeout must be more than 0 seconds, not {idle_timeout!r}; None waits for ever")
    if not _NOT_IN_IDS.isdisjoint(last_event_id):
        raise ValueError(f"last_event_id={last_event_id[:80]!r} has a line break or a NUL, so no stream gave it")


def _check_answers(head_timeout: float | None, max_answer_size: int) -> None:
    if head_timeout is not None and not head_timeout > 0:
        raise ValueError(f"head_timeout must be more than 0 seconds, or None to wait for ever; not {head_timeout!r}")
    if not max_answer_size >= 0:
        raise ValueError(f"max_answer_size must be 0 or more bytes, not {max_answer_size!r}")
