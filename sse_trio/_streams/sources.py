# What a response may be made of, brought to one form: a receive channel, and the producers that feed it.
#
# Rule 1: a stream knows one kind of source. What is not our channel becomes a producer that reads it.
# Rule 2: an async iterable is iterated and closed in one task, and closed whatever happens; that close may wait, but
#         not for ever, and no cancellation cuts it short (an async generator's `finally` is somebody's cleanup). If it
#         raises, too, the first error is not lost.
# Rule 3: what can be known to be wrong when the response is made is an error then.

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from functools import partial
from types import FunctionType
from typing import Any, TypeAlias, cast

from anyio import move_on_after

from .._arguments.checks import check_coroutine_function, innermost, is_series, wrong
from .._channels.ends import EventReceiveChannel, EventSendChannel, open_event_channel
from .._channels.source import LiveSource
from .._hubs.subscription import Subscription, source_of
from .._wire.event import Sendable, TextErrors, check_errors

__all__ = (
    "OpenSource",
    "Producer",
    "Source",
    "check_producers",
    "check_source",
    "check_source_errors",
    "close_source",
    "iterate",
    "open_source",
)

CLOSE_SECONDS = 5.0
"""How long an async iterable may take to close."""

Producer: TypeAlias = Callable[[], Awaitable[object]]
Source: TypeAlias = Callable[..., Awaitable[object]] | EventReceiveChannel | Subscription | AsyncIterable[Sendable]
OpenSource: TypeAlias = tuple[EventReceiveChannel | LiveSource, list[tuple[Producer, EventSendChannel | None]]]
"""What is written, and what has to run for it, each with the end that is to be closed when it has returned."""


def check_source(source: object, args: tuple[object, ...]) -> None:
    """Raise TypeError for what can't be a source, with what to write instead."""
    if isinstance(source, FunctionType) and source.__code__.co_flags & inspect.CO_COROUTINE:
        return  # what nearly every source is, told by the cheapest of all these questions
    if isinstance(source, AsyncIterable):
        if args:
            name = type(cast("object", source)).__name__
            msg = f"{args!r} are arguments for a producer, but the source is a {name}, not a function"
            raise TypeError(msg)
    elif inspect.isasyncgenfunction(innermost(source)):
        msg = "the source is an async generator function; call it: EventSourceResponse(generate(...))"
        raise TypeError(msg)
    elif inspect.isgeneratorfunction(innermost(source)) or (not callable(source) and isinstance(source, Iterable)):
        msg = (
            "the source is a synchronous iterable, which would block the event loop; iterate it in a worker thread "
            "that sends from there: examples/threads.py shows how"
        )
        raise TypeError(msg)
    elif inspect.iscoroutine(source):
        source.close()
        msg = "the source is a coroutine; give the function and its arguments: EventSourceResponse(produce, arg)"
        raise TypeError(msg)
    else:
        check_coroutine_function("the source", source, "a coroutine function, a receive channel or an async iterable")


def check_source_errors(errors: object, source: object) -> None:
    """Raise ValueError or TypeError for ``errors`` that make no sense, or not with this source."""
    check_errors(errors)
    if isinstance(source, (EventReceiveChannel, Subscription)):
        msg = (
            f"errors must be 'strict' with a source of type {type(source).__name__}, whose text was sent on its own "
            f"channel; got {errors!r}; write open_event_channel(errors={errors!r})"
        )
        raise TypeError(msg)


def check_producers(producers: object, source: object) -> tuple[Producer, ...]:
    """Return the producers. TypeError for what can't be one, or not beside this source."""
    wanted = "coroutine functions without arguments: write producers=[partial(produce, send_channel)]"
    if not is_series(producers):
        raise wrong(TypeError, "producers", f"a sequence of {wanted}", producers)
    checked = tuple(cast("Iterable[Producer]", producers))
    if checked and isinstance(source, Subscription):
        msg = "producers= feed a channel, and the source is a subscription: publish to its hub from tasks of your own"
        raise TypeError(msg)
    for producer in checked:
        check_coroutine_function("producers", producer, wanted)
    return checked


def open_source(
    source: Source,
    args: tuple[object, ...],
    producers: Sequence[Producer],
    max_buffer_size: float,
    max_buffer_bytes: float,
    errors: TextErrors,
) -> OpenSource:
    """Bring the source to one form."""
    running: list[tuple[Producer, EventSendChannel | None]] = [(producer, None) for producer in producers]
    if isinstance(source, Subscription):
        return source_of(source), running
    if isinstance(source, EventReceiveChannel):
        return source, running
    send_channel, receive_channel = open_event_channel(
        max_buffer_size, max_buffer_bytes=max_buffer_bytes, errors=errors
    )
    feed: Producer
    if not isinstance(source, FunctionType) and isinstance(source, AsyncIterable):
        feed = partial(iterate, source, send_channel)
    else:
        feed = partial(source, send_channel, *args)
    return receive_channel, [(feed, send_channel), *running]


async def iterate(
    source: AsyncIterable[Any],
    send_channel: EventSendChannel,
    *,
    as_sendable: Callable[[Any], Sendable] | None = None,
    close: Callable[[object], Awaitable[object]] | None = None,
) -> None:
    """Send the items, and close what was iterated in this task, whatever happens.

    Args:
        source: what is iterated.
        send_channel: where they go.
        as_sendable: makes an event of an item; by default they are events.
        close: closes it; by default :func:`close_source`.
    """
    iterator, close = aiter(source), close or close_source
    try:
        try:
            async for item in iterator:
                await send_channel.send(item if as_sendable is None else as_sendable(item))
        finally:
            await close(iterator)
    finally:
        if iterator is not source:  # an object of some client library's, say, with an async generator as __aiter__
            await close(source)


async def close_source(source: object, seconds: float | None = CLOSE_SECONDS) -> bool:
    """Close an iterable that can be closed; return whether that was cut short.

    A checkpoint of at most so many seconds, of any length for ``None``; shielded. What it raises while an exception is
    handled has that in its context.
    """
    aclose = getattr(source, "aclose", None)  # a tenth of what asking a Protocol costs before Python 3.12
    if aclose is None:
        return False
    handled = sys.exc_info()[1]
    with move_on_after(seconds, shield=True) as scope:
        try:
            await aclose()
        except BaseException as exc:
            _put_after(exc, handled)
            raise
    return scope.cancel_called  # even where the cancellation was swallowed


def _put_after(exc: BaseException, handled: BaseException | None) -> None:
    # As Python does it for all but aclose() of an async generator: there the chain ends at a GeneratorExit.
    chain = [exc]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) is not None and earlier not in chain:
        chain.append(earlier)
    if handled is None or handled in chain:
        return
    chain[-1].__context__ = handled
    for each in chain:
        each.__suppress_context__ = each.__cause__ is not None  # "from None" was not meant for the first error
