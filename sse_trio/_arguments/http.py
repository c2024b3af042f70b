# Checks of a response's HTTP arguments: its status, its headers and its background task.
#
# Rule 1: making the response raises for a value that a server would refuse or garble, or that the client would read as
#         a second header (RFC 9110, sections 5.1, 5.5 and 15).
# Rule 2: an error names the header but never shows its value, which may be a secret.

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from .checks import check_coroutine_function, wrong

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.requests import HTTPConnection

__all__ = ("check_background", "check_headers", "check_media_type", "check_status_code", "headers_of")

_WITHOUT_BODY = frozenset((204, 205, 304))  # RFC 9110 sections 15.3.5, 15.3.6, 15.4.5
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUES = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_HEADERS = 'a mapping of names to values, both str, such as {"vary": "accept"}, or None'


def check_status_code(value: object) -> None:
    """Raise unless the value is a status code of a response with a body."""
    wanted = "an int from 200 to 599, for a response with a body"
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong(TypeError, "status_code", wanted, value)
    if value in _WITHOUT_BODY:
        msg = f"status_code must be {wanted}; got {int(value)}; without a body write Response(status_code={int(value)})"
        raise ValueError(msg)
    if not 200 <= value <= 599:
        raise wrong(ValueError, "status_code", wanted, value)


def check_headers(headers: object) -> None:
    """Raise unless the value is a mapping of header names to header values."""
    if not isinstance(headers, Mapping):
        raise wrong(TypeError, "headers", _HEADERS, headers)
    for name, value in cast("Mapping[object, object]", headers).items():
        if not isinstance(name, str):
            raise wrong(TypeError, "headers", _HEADERS, name)
        if not _NAME.fullmatch(name):
            raise wrong(ValueError, "a name in headers", "letters, digits and '-' (RFC 9110, 5.1)", name)
        _check_value(name, value)


def check_media_type(value: object) -> None:
    """Raise unless the value can be a Content-Type."""
    if not isinstance(value, str):
        raise wrong(TypeError, "media_type", 'a str, such as "text/event-stream", or None', value)
    if not value or _NOT_IN_VALUES.search(value):
        raise wrong(ValueError, "media_type", 'a media type, such as "text/event-stream", or None', value)


def headers_of(connection: HTTPConnection) -> Headers:
    """Return the headers of a request; raise TypeError for any other object."""
    headers: Headers | None = getattr(connection, "headers", None)
    if isinstance(connection, type) or not hasattr(headers, "getlist"):
        raise wrong(TypeError, "connection", "a Starlette Request or WebSocket", connection)
    return cast("Headers", headers)


def check_background(value: object) -> None:
    """Raise unless the value can be called and awaited after the response."""
    check_coroutine_function("background", value, "a BackgroundTask, or a coroutine function without arguments")


def _check_value(name: str, value: object) -> None:
    if not isinstance(value, str):
        msg = f"headers must be a mapping of str to str; got a value of type {type(value).__name__} for {name!r}"
        raise TypeError(msg)
    if _NOT_IN_VALUES.search(value):
        msg = f"headers must have values of one line in latin-1 (RFC 9110, 5.5); got other characters in {name!r}"
        raise ValueError(msg)
