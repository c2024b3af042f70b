# The headers that a caller gives: a mapping, or a function that is asked before each attempt to connect.
#
# Rule 1: a function is asked anew each time, since tokens expire.
# Rule 2: what can't be sent is an error before anything is sent, and no message has a header's value, which may be
#         a token.

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias, cast

import httpx

__all__ = ("CallerHeaders", "HeaderMapping", "HeaderSource")

HeaderMapping: TypeAlias = Mapping[str, str] | httpx.Headers
HeaderSource: TypeAlias = Callable[[], HeaderMapping | Awaitable[HeaderMapping]]

# RFC 9110, 5.1 and 5.5.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")


class CallerHeaders:
    """What the caller gave as ``headers=``.

    Raises:
        TypeError: it is neither a mapping of str to str nor a function.
        ValueError: no header can be called so, or have such a value.
    """

    def __init__(self, headers: HeaderMapping | HeaderSource | None) -> None:
        self._source = headers if callable(headers) else None
        self._fixed = httpx.Headers() if callable(headers) else _checked({} if headers is None else headers, "headers")

    @property
    def can_refresh(self) -> bool:
        """Whether asking again may bring others."""
        return self._source is not None

    async def ask(self) -> httpx.Headers:
        """Return the headers of the next request.

        Raises:
            TypeError: the function has returned what is no mapping of str to str.
            ValueError: no header can be called so, or have such a value.
        """
        if self._source is None:
            return self._fixed
        answer = self._source()
        return _checked(await answer if inspect.isawaitable(answer) else answer, "what headers() returns")


def _checked(headers: object, what: str) -> httpx.Headers:
    return httpx.Headers([_checked_pair(name, value, what) for name, value in _pairs(headers, what)])


def _pairs(headers: object, what: str) -> Iterable[tuple[object, object]]:
    if isinstance(headers, httpx.Headers):
        return headers.multi_items()
    if not isinstance(headers, Mapping):
        raise TypeError(f"{what} must be a mapping of header names to values, not {type(headers).__name__}")
    return cast("Mapping[object, object]", headers).items()


def _checked_pair(name: object, value: object, what: str) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"{what} must have str for names and values, not {type(value).__name__} for {name!r}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} must not have {name!r}: no header can be called so")
    if not _VALUE.fullmatch(value):
        raise ValueError(
            f"{what} must not have such a value for {name!r}: it is ASCII without control characters, and without "
            "blanks around it; maybe .strip() it"
        )
    return name, value
