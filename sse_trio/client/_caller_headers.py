# The caller's headers: a mapping, or a function that returns one.
#
# Rule 1: a function is called before each attempt to connect, because tokens expire.
# Rule 2: a header that can't be sent is an error before anything is sent. No message shows a header's value, because it
#         may be a token.

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
    """The caller's ``headers=``.

    Raises:
        TypeError: it is neither a mapping of str to str nor a function.
        ValueError: HTTP has no header of this name, or with this value.
    """

    def __init__(self, headers: HeaderMapping | HeaderSource | None) -> None:
        self._source = headers if callable(headers) else None
        self._fixed = httpx.Headers() if callable(headers) else _checked({} if headers is None else headers, "headers")

    @property
    def can_refresh(self) -> bool:
        """Whether another call may return other headers."""
        return self._source is not None

    async def ask(self) -> httpx.Headers:
        """Return the headers of the next request.

        Raises:
            TypeError: the function did not return a mapping of str to str.
            ValueError: HTTP has no header of this name, or with this value.
        """
        if self._source is None:
            return self._fixed
        answer = self._source()
        return _checked(await answer if inspect.isawaitable(answer) else answer, "the return value of headers")


def _checked(headers: object, what: str) -> httpx.Headers:
    return httpx.Headers([_checked_pair(name, value, what) for name, value in _pairs(headers, what)])


def _pairs(headers: object, what: str) -> Iterable[tuple[object, object]]:
    if isinstance(headers, httpx.Headers):
        return headers.multi_items()
    if not isinstance(headers, Mapping):
        raise TypeError(
            f"{what} must be a mapping of header names to values; got an object of type {type(headers).__name__}"
        )
    return cast("Mapping[object, object]", headers).items()


def _checked_pair(name: object, value: object, what: str) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        kind = type(value).__name__
        raise TypeError(f"{what} must be a mapping of str to str; the value of {name!r} is of type {kind}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} must have names of letters, digits and '-' (RFC 9110, 5.1); got {name!r}")
    if not _VALUE.fullmatch(value):
        raise ValueError(
            f"{what} must have values in ASCII without control characters and without blanks around them; "
            f"that of {name!r} has something else; maybe .strip() it"
        )
    return name, value
