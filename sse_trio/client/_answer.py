# Answers that are not an event stream by the standard: whether the caller accepts them, and how their bodies are read
# for the error.
#
# Rule 1: the server may be hostile, so the size of a body and the time to read it are bounded.
# Rule 2: the error says whether the body is complete, because an answer that was cut short looks like a whole one.
# Rule 3: a hook of the client may have read the answer or closed it. Nothing more is read of it then.

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine

import anyio
import httpx

from .._arguments.checks import shown
from ._body import Body, close, codings_of_response, was_read, why_undecodable

__all__ = ("is_accepted", "is_final_for_proxy", "read_answer", "refuse_unread")

# The seconds that the body of an answer may take.
_SECONDS = 5.0


async def is_accepted(accept: Callable[[httpx.Response], bool] | None, response: httpx.Response) -> bool:
    """Whether the caller accepts this answer as a stream. If the caller's function raises, the answer is closed.

    Raises:
        TypeError: the caller's function returned neither True nor False, but a coroutine, for example.
    """
    try:
        return accept is not None and _checked(accept(response))
    except BaseException:
        await close(response)
        raise


def _checked(answer: object) -> bool:
    if not isinstance(answer, bool):
        got = shown(answer)
        if isinstance(answer, Coroutine):
            answer.close()  # otherwise Python would warn that it was never awaited
        raise TypeError(f"accept must be a function, not async, that returns True or False; it returned {got}")
    return answer


def is_final_for_proxy(error: httpx.HTTPError, retry_statuses: Container[int]) -> bool:
    """Whether a proxy refused to connect us, and will do so again: 407, 403."""
    # httpcore has the proxy's status only in its message: "407 Proxy Authentication Required".
    status = str(error).partition(" ")[0]
    return isinstance(error, httpx.ProxyError) and status.isdecimal() and int(status) not in retry_statuses


async def read_answer(response: httpx.Response, limit: int) -> bool:
    """Read the body of an answer, as far as the limit and 5 seconds allow, close it, and return whether it is whole.

    The body is decompressed, and ``content-encoding`` removed from the response. A body that can't be decompressed
    stays as it came, with its header. If it was compressed more than once, nothing is read.
    """
    if was_read(response):
        return True
    if response.is_closed or len(codings_of_response(response)) > 1:
        return await refuse_unread(response)
    is_raw = bool(why_undecodable(response))
    body, head, is_whole = _body_of(response, raw=is_raw), bytearray(), False
    try:
        with anyio.move_on_after(_SECONDS):
            while len(head) <= limit:
                head += await body.read()
    except anyio.EndOfStream:
        is_whole = len(head) <= limit
    except httpx.HTTPError:
        pass  # the error to report is the answer itself
    finally:
        await body.aclose()
    await _set_content(response, bytes(head[:limit]), is_raw=is_raw)
    return is_whole


async def refuse_unread(response: httpx.Response) -> bool:
    """Close an answer whose body is lost or can't be decoded, and return that its body isn't whole."""
    await _body_of(response, raw=True).aclose()
    await _set_content(response, b"", is_raw=True)
    return False


def _body_of(response: httpx.Response, *, raw: bool) -> Body:
    """Return the body, to be read behind the response's back: _set_content() gives it another one."""
    reader = httpx.Response(
        response.status_code,
        headers=response.headers,
        stream=response.stream,
        request=response.request,
        extensions=response.extensions,
    )
    return Body(reader, raw=raw)


async def _set_content(response: httpx.Response, content: bytes, *, is_raw: bool) -> None:
    coding = response.headers.pop("content-encoding", "")
    response.stream = httpx.ByteStream(content)
    response.is_closed = False
    await response.aread()  # after removing content-encoding, or httpx would decode it
    if is_raw and coding:
        response.headers["content-encoding"] = coding
