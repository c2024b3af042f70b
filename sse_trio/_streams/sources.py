# Sources: what a response can be made from, brought to one form: a receive channel, and the producers that feed it.
#
# Rule 1: a stream knows one kind of source. Any other kind becomes a producer that sends on a channel of ours.
# Rule 2: an async iterable is iterated and closed in the same task, and it is always closed. Closing it may wait for a
#         bounded time, shielded from cancellation, because the `finally` of an async generator is the user's cleanup.
#         If closing raises too, the first error is kept as the context.
# Rule 3: a mistake that can be noticed when the response is made is an error then.

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
"""How many seconds an async iterable may take to close."""

Producer: TypeAlias = Callable[[], Awaitable[object]]
Source: TypeAlias = Callable[..., Awaitable[object]] | EventReceiveChannel | Subscription | AsyncIterable[Sendable]
OpenSource: TypeAlias = tuple[EventReceiveChannel | LiveSource, list[tuple[Producer, EventSendChannel | None]]]
"""The source to write from, and its producers, each with the send channel to close when it returns."""


def check_source(source: object, args: tuple[object, ...]) -> None:
    """Raise TypeError for an invalid source, with what to write instead."""
    if isinstance(source, FunctionType) and source.__code__.co_flags & inspect.CO_COROUTINE:
        return  # nearly every source is a coroutine function, and this is the cheapest check
    if isinstance(source, AsyncIterable):
        if args:
            name = type(cast("object", source)).__name__
            msg = f"arguments after the source are for a coroutine function, but the source is a {name}; got {args!r}"
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
    """Raise ValueError or TypeError for an invalid ``errors``, or one that this source does not use."""
    check_errors(errors)
    if isinstance(source, (EventReceiveChannel, Subscription)):
        msg = (
            f"errors must be 'strict' with a source of type {type(source).__name__}, whose text was sent on its own "
            f"channel; got {errors!r}; write open_event_channel(errors={errors!r})"
        )
        raise TypeError(msg)


def check_producers(producers: object, source: object) -> tuple[Producer, ...]:
    """Return the producers as a tuple. Raise TypeError for an invalid producer, or a source that takes none."""
    wanted = "coroutine functions without arguments: write producers=[partial(produce, send_channel)]"
    if not is_series(producers):
        raise wrong(TypeError, "producers", f"a sequence of {wanted}", producers)
    checked = tuple(cast("Iterable[Producer]", producers))
    if checked and isinstance(source, Subscription):
        msg = "producers must be empty when the source is a subscription; publish to its hub from your own tasks"
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
    """Return the source in the one form that a stream knows."""
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
    """Send the items, and always close the iterable, in this task.

    Args:
        source: the async iterable.
        send_channel: sends the items.
        as_sendable: turns an item into an event; by default items are events.
        close: closes the iterable; by default :func:`close_source`.
    """
    iterator, close = aiter(source), close or close_source
    try:
        try:
            async for item in iterator:
                await send_channel.send(item if as_sendable is None else as_sendable(item))
        finally:
            await close(iterator)
    finally:
        if iterator is not source:  # an object of a client library, for example, whose __aiter__ is an async generator
            await close(source)


async def close_source(source: object, seconds: float | None = CLOSE_SECONDS) -> bool:
    """Call the source's ``aclose()``, if it has one; return whether that took too long and was cancelled.

    A shielded checkpoint of at most ``seconds``; ``None`` means no limit. If ``aclose()`` raises while another
    exception is being handled, that one is the context of the new one.
    """
    aclose = getattr(source, "aclose", None)  # a tenth of the cost of isinstance() with a Protocol before Python 3.12
    if aclose is None:
        return False
    handled = sys.exc_info()[1]
    with move_on_after(seconds, shield=True) as scope:
        try:
            await aclose()
        except BaseException as exc:
            _put_after(exc, handled)
            raise
    return scope.cancel_called  # even if the source swallowed the cancellation


def _put_after(exc: BaseException, handled: BaseException | None) -> None:
    # Python does this itself, except for an async generator's aclose(), where the chain ends at a GeneratorExit.
    chain = [exc]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) is not None and earlier not in chain:
        chain.append(earlier)
    if handled is None or handled in chain:
        return
    chain[-1].__context__ = handled
    for each in chain:
        each.__suppress_context__ = each.__cause__ is not None  # its "from None" does not concern the first error
