# Checks of arguments: numbers, texts, labels and functions.
#
# Rule 1: the call that gets a bad argument raises: TypeError for the wrong type, ValueError for a value out of range.
#         It checks all arguments before it stores any.
# Rule 2: every message has one form, "`name` must be ...; got ...", and tells the caller what to write.
# Rule 3: True is not a number, nan is not a time, and only True means yes: other truthy values don't.
# Rule 4: a function that is called without `await` must not be a coroutine function, since a coroutine is truthy. A
#         function that is awaited must not be a plain one. Both are refused if that is known without calling them.

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncGenerator, Generator, Hashable, Iterable, Mapping, Sequence
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, TypeVar, cast

__all__ = (
    "LEAST_INTERVAL",
    "check_any_function",
    "check_coroutine_function",
    "check_count",
    "check_flag",
    "check_function",
    "check_grace",
    "check_instance",
    "check_interval",
    "check_key",
    "check_labels",
    "check_seconds",
    "check_text",
    "innermost",
    "is_series",
    "members_of",
    "shown",
    "wrong",
)

E = TypeVar("E", TypeError, ValueError)

LONGEST_SHOWN = 80
"""How many characters of a value an error shows: the value may come from the network."""
LARGEST_TIME = 10**15
"""Seconds. An int beyond the range of float would only fail later, when the deadline is computed."""
LARGEST_COUNT = 2**63 - 1
LEAST_INTERVAL = 0.001
"""Seconds. A stream that is checked more often would keep the loop busy."""

_ASYNCHRONOUS = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
_LATER = _ASYNCHRONOUS | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR


def wrong(error: type[E], name: str, wanted: str, got: object) -> E:
    """Return the error for a bad argument: "`name` must be ...; got ..."."""
    return error(f"{name} must be {wanted}; got {shown(got)}")


def shown(value: object) -> str:
    """Return the ``repr`` of a value for an error message: shortened, and a replacement if ``repr`` itself raises."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 -- a user's __repr__, or an int of more digits than Python prints
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def members_of(value: object) -> tuple[object, ...]:
    """Return the members of a tuple or a list; for any other value, none."""
    return tuple(cast("Sequence[object]", value)) if isinstance(value, (tuple, list)) else ()


def is_series(value: object) -> bool:
    """Return whether the value is an iterable, but not a text or a mapping."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))


# --- numbers


def check_seconds(name: str, value: object, *, zero: bool, none: str = ", or None") -> None:
    """Raise unless the value is a positive number of seconds.

    Args:
        name: the parameter's name.
        value: the argument.
        zero: whether 0 is allowed.
        none: the end of the message, which says what ``None`` means; empty if ``None`` is not allowed.
    """
    if type(value) is float and value > 0:
        return  # nearly always a default, and checked three times for each stream
    wanted = f"a number of seconds, 0 or more{none}" if zero else f"a positive number of seconds{none}"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong(TypeError, name, wanted, value)
    if not (value > 0 or (zero and value == 0)) or LARGEST_TIME < value < math.inf:
        raise wrong(ValueError, name, wanted, value)


def check_grace(name: str, value: object) -> None:
    """Raise unless the value is a time that producers may be given: finite, and not ``None``."""
    if value is None or value == math.inf:
        wanted = "a finite number of seconds, 0 or more, because a producer that never ends would hold the server"
        raise wrong(ValueError, name, wanted, value)
    check_seconds(name, value, zero=True, none="")


def check_interval(name: str, value: object, *, zero: bool, none: str = ", or None") -> None:
    """Raise unless the value is an interval at which a stream can be checked. Otherwise like :func:`check_seconds`."""
    check_seconds(name, value, zero=zero, none=none)
    if 0 < cast("float", value) < LEAST_INTERVAL:
        raise wrong(ValueError, name, f"{LEAST_INTERVAL} seconds or more{none}", value)


def check_count(name: str, value: object, *, least: int = 1, most: int = LARGEST_COUNT, none: str = "") -> None:
    """Raise unless the value is an int from ``least`` to ``most``; ``none`` is as in :func:`check_seconds`."""
    limits = f"{least} or more" if most == LARGEST_COUNT else f"from {least} to {most}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong(TypeError, name, f"an int, {limits}{none}", value)
    if not least <= value <= most:
        raise wrong(ValueError, name, f"an int, {limits}{none}", value)


# --- other values


def check_flag(name: str, value: object) -> None:
    """Raise unless the value is True or False."""
    if value is not True and value is not False:
        raise wrong(TypeError, name, "True or False", value)


def check_text(name: str, value: object, wanted: str = "a str") -> None:
    """Raise unless the value is a str that UTF-8 can encode."""
    if not isinstance(value, str):
        raise wrong(TypeError, name, wanted, value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise wrong(ValueError, name, f"{wanted} without lone surrogates", value) from None


def check_instance(name: str, value: object, kind: type, wanted: str) -> None:
    """Raise unless the value is an instance of this class."""
    if not isinstance(value, kind):
        raise wrong(TypeError, name, wanted, value)


def check_labels(value: object, parameter: str = "labels") -> None:
    """Raise unless the value is a mapping of str to str."""
    if not isinstance(value, Mapping):
        raise wrong(TypeError, parameter, 'a mapping of names to values, such as {"user": "ann"}, or None', value)
    for name, label in cast("Mapping[object, object]", value).items():
        if not isinstance(name, str) or not isinstance(label, str):
            raise wrong(TypeError, parameter, "a mapping of str to str", {name: label})


def check_key(key: object) -> None:
    """Raise unless the value is a publish key."""
    wanted = '(producer, number), a str and an increasing int, such as ("orders-1", 7), or None'
    pair = members_of(key)
    if len(pair) != 2 or not isinstance(key, Hashable):  # a store uses it as a key
        raise wrong(TypeError, "key", wanted, key)
    check_text("the producer of key", pair[0])
    check_count("the number of key", pair[1], least=0)


# --- functions


def check_function(name: str, value: object, wanted: str = "a function") -> None:
    """Raise TypeError unless the value is a function that returns its result without `await`."""
    if not callable(value):
        _close_coroutine(value)
        msg = f"{name} must be {wanted}; got {shown(value)}; give the function itself, not its result"
        raise TypeError(msg)
    if _has_flags(value, _LATER):
        msg = (
            f"{name} must be {wanted} that returns its result at once, because it is not awaited; "
            f"got {shown(value)}; write `def`, not `async def`, and no `yield`"
        )
        raise TypeError(msg)


def check_any_function(name: str, value: object, wanted: str) -> None:
    """Raise TypeError unless the value is a plain or coroutine function: not a class, not a generator function."""
    if isinstance(value, type) or not callable(value) or _has_flags(value, _LATER & ~_ASYNCHRONOUS):
        _close_coroutine(value)
        raise wrong(TypeError, name, wanted, value)


def check_coroutine_function(
    name: str, value: object, wanted: str = "a function that is awaited", *, instead_of_yield: str = ""
) -> None:
    """Raise TypeError unless calling the value may return an awaitable.

    That holds for a coroutine function, and may hold for a lambda, a wrapper and an object with ``__call__``. If it is
    a generator function, the message ends with ``instead_of_yield``.
    """
    if callable(value) and not _is_synchronous(value):
        return
    _close_coroutine(value)
    if _yields(value):
        raise TypeError(f"{name} must be {wanted}, without `yield`; got {shown(value)}{instead_of_yield}")
    if not callable(value):
        msg = f"{name} must be {wanted}; got {shown(value)}; give the function itself, not its result"
        raise TypeError(msg)
    raise wrong(TypeError, name, f"{wanted}; write `async def`", value)


def innermost(function: object) -> Any:
    """Return the function inside ``partial`` objects."""
    while isinstance(function, partial):
        function = cast("partial[object]", function).func
    return function


def _has_flags(function: object, flags: int) -> bool:
    function = innermost(function)
    if not isinstance(function, (FunctionType, MethodType, BuiltinFunctionType, type)):
        if inspect.iscoroutinefunction(function):  # marked as a coroutine function, as mocks are
            return True
        function = getattr(type(function), "__call__", None)  # noqa: B004 -- the function is inspected, not called
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & flags)


def _is_synchronous(function: object) -> bool:
    function = innermost(function)
    if isinstance(function, BuiltinFunctionType):
        return True
    if isinstance(function, type):
        return not hasattr(function, "__await__")
    if not isinstance(function, (FunctionType, MethodType)) or function.__name__ == "<lambda>":
        return False
    return not (_has_flags(function, _ASYNCHRONOUS) or inspect.iscoroutinefunction(inspect.unwrap(function)))


def _yields(value: object) -> bool:
    # A generator function, or what one returned.
    return (
        isinstance(value, (Generator, AsyncGenerator))
        or inspect.isgeneratorfunction(value)
        or inspect.isasyncgenfunction(value)
    )


def _close_coroutine(value: object) -> None:
    # Nothing will await it, and it would warn about that when it is collected.
    if inspect.iscoroutine(value):
        value.close()
