# Sources: what a response can be made from: a producer (an async function that takes a send channel), a receive
# channel, a hub's subscription, an async iterable, an iterator. Here each is brought to one form: a receive channel,
# and the producers that feed it.
#
# Rule 1: a stream knows one kind of source. Any other kind becomes a producer that sends on a channel of ours.
# Rule 2: an async iterable is iterated and closed in the same task, and it is always closed. Closing it may wait for a
#         bounded time, shielded from cancellation, because the `finally` of an async generator is the user's cleanup.
#         If closing raises too, the first error is kept as the context.
# Rule 3: a mistake that can be noticed when the response is made is an error then.
# Rule 4: an iterator that isn't async is iterated in a worker thread (threads.py), so that it doesn't block the loop.

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from types import FunctionType, MappingProxyType
from typing import Any, NamedTuple, TypeAlias, cast

from anyio import move_on_after

from .._arguments.checks import check_function, is_series, wrong
from .._channels.limits import check_limits
from .._channels.opening import new_channel_state
from .._channels.overflow import Overflow
from .._channels.receive_channel import EventReceiveChannel
from .._channels.send_channel import EventSendChannel
from .._channels.source import LiveSource
from .._channels.state import ChannelState
from .._hubs.subscription import Subscription, source_of
from .._wire.event import Sendable, ServerSentEvent, TextErrors, check_errors
from .threads import close_in_thread, iterate_in_thread
from .wrapped import without_wrapper
from .wrong_source import check_producer, check_source_function, check_takes_channel

__all__ = (
    "NO_SOURCE",
    "ChannelOptions",
    "OpenSource",
    "Producer",
    "Source",
    "check_producers",
    "check_source",
    "close_source",
    "iterate",
    "one_source",
    "open_source",
)

CLOSE_SECONDS = 5.0
"""How many seconds an async iterable may take to close."""

Producer: TypeAlias = Callable[[], Awaitable[object]]
Source: TypeAlias = (
    Callable[..., Awaitable[object]] | EventReceiveChannel | Subscription | AsyncIterable[Sendable] | Iterator[Sendable]
)
OpenSource: TypeAlias = tuple[
    EventReceiveChannel | ChannelState | LiveSource, list[tuple[Producer, EventSendChannel | None]]
]
"""The source to write from, and its producers, each with the send channel to close when it returns. A channel that was
opened for the source has no receive end."""


NO_SOURCE: Any = object()
"""In place of a source that was not given. Not None: a function that returned nothing gives that."""


class ChannelOptions(NamedTuple):
    """The options of the channel that is opened for a source that has none."""

    max_buffer_size: float
    max_buffer_bytes: float
    overflow: Overflow
    conflate: Callable[[ServerSentEvent], Hashable] | None
    errors: TextErrors

    def check(self, source: object) -> None:
        """Raise ValueError or TypeError for an invalid option, or one that this source does not use."""
        check_limits(self.max_buffer_size, self.max_buffer_bytes, self.overflow)
        if self.conflate is not None:
            check_function("conflate", self.conflate, "a function of an event that returns its key")
        if self.errors != "strict":
            check_errors(self.errors)
        if isinstance(source, (EventReceiveChannel, Subscription)):
            self._check_unused(source)

    def _check_unused(self, source: EventReceiveChannel | Subscription) -> None:
        kind = type(source).__name__
        for name, default in (("overflow", "wait"), ("conflate", None), ("errors", "strict")):
            value = getattr(self, name)
            if value != default:
                write = f"open_event_channel({name}=...)" if isinstance(source, EventReceiveChannel) else _OF_HUBS[name]
                msg = (
                    f"{name} must be left out with a source of type {kind}, which has its own queue; got {value!r}; "
                    f"write {write}"
                )
                raise TypeError(msg)


_OF_HUBS = MappingProxyType(
    {
        "overflow": "hub.subscribe(topic, overflow=...)",
        "conflate": "a topic for each key, and hub.subscribe(topic, overflow='drop_oldest')",
        "errors": "hub.publish(topic, ServerSentEvent(text, errors=...))",
    }
)


def one_source(source: object, content: object) -> Any:
    """Return the source that was given, by position or as ``content``; TypeError unless it was one of the two."""
    if (source is NO_SOURCE) is (content is NO_SOURCE):
        given = "none" if content is NO_SOURCE else "both"
        msg = f"a response needs one source, by position or as content=; got {given}; write EventSourceResponse(source)"
        raise TypeError(msg)
    return source if content is NO_SOURCE else without_wrapper(content)


def check_source(source: object, args: tuple[object, ...]) -> None:
    """Raise TypeError for an invalid source, with what to write instead."""
    if isinstance(source, FunctionType) and source.__code__.co_flags & inspect.CO_COROUTINE:
        # Nearly every source is a coroutine function, and these are the cheapest checks.
        check_takes_channel(source)
        return
    if isinstance(source, (AsyncIterable, Iterator)):
        if args:
            name = type(cast("object", source)).__name__
            msg = f"arguments after the source are for a coroutine function, but the source is a {name}; got {args!r}"
            raise TypeError(msg)
    else:
        check_source_function(source)


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
        check_producer("producers", producer, wanted)
    return checked


def open_source(
    source: Source,
    args: tuple[object, ...],
    producers: Sequence[Producer],
    options: ChannelOptions,
) -> OpenSource:
    """Return the source in the one form that a stream knows."""
    running = zip(producers, repeat(None))
    if isinstance(source, Subscription):
        return source_of(source), [*running]
    if isinstance(source, EventReceiveChannel):
        return source, [*running]
    channel = new_channel_state(*options)  # they are checked
    channel.open_for_stream()
    send_channel = EventSendChannel(channel)
    feed: Producer
    if isinstance(source, FunctionType):
        feed = partial(source, send_channel, *args)
    elif isinstance(source, AsyncIterable):
        feed = partial(iterate, source, send_channel)
    elif isinstance(source, Iterator):
        feed = partial(iterate_in_thread, source, send_channel)
    else:
        feed = partial(source, send_channel, *args)
    return channel, [(feed, send_channel), *running]


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
    """Close an iterable that can be closed; return whether that took too long and was cancelled.

    An iterator that isn't async is closed in a worker thread.

    A shielded checkpoint of at most ``seconds``; ``None`` means no limit. If ``aclose()`` raises while another
    exception is being handled, that one is the context of the new one.
    """
    aclose = getattr(source, "aclose", None)  # a tenth of the cost of isinstance() with a Protocol before Python 3.12
    if aclose is None:
        if not isinstance(source, Iterator):
            return False
        aclose = partial(close_in_thread, source)
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
