# The wrong source of a response, and the wrong producer: what was given instead, and what to write.
#
# Rule 1: each error says what to write for what was given, such as the other end of a pair of channels.
# Rule 2: sources.py decides what a source is; this is asked only when something is none, or can't be told by its type.

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from contextlib import AsyncContextDecorator
from types import FunctionType

from starlette.responses import Response

from .._arguments.checks import check_coroutine_function, innermost, shown
from .._hubs.hub import Hub
from .._wire.json import is_model

__all__ = ("check_producer", "check_source_function", "check_takes_channel")

_WANTED = "a coroutine function, a receive channel or an iterable"
_INSTEAD_OF_YIELD = "write `await send_channel.send(item)` in place of `yield item`"


def check_producer(name: str, value: object, wanted: str) -> None:
    """Raise TypeError unless the value may be a producer. A generator function is none."""
    check_coroutine_function(name, value, wanted, instead_of_yield=f"; {_INSTEAD_OF_YIELD}")


def check_takes_channel(produce: FunctionType) -> None:
    """Raise TypeError if the function has no parameter for the send channel."""
    if not produce.__code__.co_argcount and not produce.__code__.co_flags & inspect.CO_VARARGS:
        name = produce.__name__
        msg = f"{name}() must have a parameter for the send channel; write `async def {name}(send_channel)`"
        raise TypeError(msg)


def check_source_function(source: object) -> None:
    """Raise TypeError unless the source, which can't be iterated, may be a producer."""
    function = innermost(source)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        msg = (
            f"the source is a generator function; call it: EventSourceResponse({function.__name__}(...)); or make it a "
            f"producer, which has a send channel and no `yield`: {_INSTEAD_OF_YIELD}"
        )
        raise TypeError(msg)
    if inspect.iscoroutine(source):
        source.close()
        msg = (
            "the source is a coroutine; await it, if it returns an async iterable; of a producer give the function and "
            "its arguments: EventSourceResponse(produce, arg)"
        )
        raise TypeError(msg)
    if isinstance(source, Response):
        msg = "the source is a response; return it as it is"
        raise TypeError(msg)
    if isinstance(source, AsyncContextDecorator) or not callable(source) or _is_of_hub(source):
        raise TypeError(_what_it_is(source))
    check_coroutine_function("the source", source, _WANTED)


def _is_of_hub(source: object) -> bool:
    return isinstance(source, Hub) or isinstance(getattr(source, "__self__", None), Hub)


def _what_it_is(source: object) -> str:
    kind = type(source).__name__
    if isinstance(source, (str, bytes, Mapping)) or is_model(source):
        return f"the source is a {kind}, which is not a stream; `yield` it, to send it as one event"
    if isinstance(source, Iterable):
        return (
            f"the source is a {kind}, which is not a stream; `yield` its items, or write "
            "EventSourceResponse(iter(items)) to send them from a worker thread"
        )
    return f"the source must be {_WANTED}; got {shown(source)}; {_what_to_write(source)}"


def _what_to_write(source: object) -> str:
    if source is None:
        return (
            "a function that makes the source must return it; in FastAPI, a path operation with "
            "response_class=EventSourceResponse must `yield`"
        )
    if _is_of_hub(source):
        return "write EventSourceResponse(hub.subscribe(topic))"
    if hasattr(source, "send_nowait"):
        return "give the receive end of the pair"
    if hasattr(source, "get_nowait"):
        return "write a producer that takes from it: `await send_channel.send(await queue.get())`"
    if hasattr(source, "__aenter__"):
        return "enter it in a producer: `async with source as items:`"
    return "give the function itself, not its result"
