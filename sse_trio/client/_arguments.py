# Checks of what open_event_source() takes.
#
# Rule 1: a wrong argument is a TypeError or a ValueError where the caller opens the source. Its message has the form of
#         _arguments/checks.py, whose checks are used wherever the client wants nothing more.
# Rule 2: no message quotes a URL, a parameter, a body or a header's value: there may be a password in it.
# Rule 3: a number of seconds is finite: every wait of the client ends, or None says that it doesn't.

from __future__ import annotations

import math
import re
from collections.abc import Collection, Container, Mapping, Sequence
from typing import cast

import httpx
from idna import IDNAError

from .._arguments import checks
from .._arguments.checks import check_flag, wrong
from ._redirects import Origin

__all__ = (
    "InvalidURLError",
    "check_answers",
    "check_connection",
    "check_function",
    "check_reconnection",
    "check_seconds",
    "checked_origins",
    "checked_params",
    "checked_url",
)

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 9.1
_WITHOUT_STREAM = frozenset({"HEAD", "CONNECT"})
# WHATWG HTML 9.2.6: lines end at these, and an id with a NUL is ignored.
_NOT_IN_IDS = re.compile("[\r\n\0\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_PARAMS = (str, int, float, type(None))


class InvalidURLError(httpx.InvalidURL, ValueError):
    """The URL is not valid. The message says what kind of mistake it has and quotes nothing of it."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} in the URL; if a user name or a password has '/', '?', '#' or '@' in it, write %2F, %3F, %23 "
            "or %40"
        )


def _wrong_type(name: str, wanted: str, got: object) -> TypeError:
    """Return the error for an argument that may hold a secret (rule 2)."""
    return TypeError(f"{name} must be {wanted}; got an object of type {type(got).__name__}")


def check_connection(client: object, method: object, content: object, json: object, last_event_id: object) -> None:
    """Check what each request is made of."""
    _check_client(client)
    _check_method(method)
    _check_body(content, json)
    _check_event_id(last_event_id)


def check_reconnection(
    reconnect: object, retry: object, max_retry: object, idle_timeout: object, retry_statuses: object
) -> None:
    """Check what says when to connect again."""
    if reconnect is not None and not isinstance(reconnect, bool):
        raise wrong(TypeError, "reconnect", "True, False, or None for GET only", reconnect)
    check_seconds("retry", retry, zero=True)
    check_seconds("max_retry", max_retry, zero=True)
    check_seconds("idle_timeout", idle_timeout, zero=False, none="to wait for ever")
    _check_statuses(retry_statuses)


def check_answers(head_timeout: object, max_answer_size: object, accept: object, take_unfinished: object) -> None:
    """Check what is done with an answer."""
    check_seconds("head_timeout", head_timeout, zero=False, none="to wait for ever")
    _check_size("max_answer_size", max_answer_size)
    check_function("accept", accept)
    check_flag("take_unfinished", take_unfinished)


def checked_url(url: object) -> httpx.URL:
    """Return the URL as httpx reads it."""
    if not isinstance(url, (str, httpx.URL)):
        raise _wrong_type("url", "a str or an httpx.URL", url)
    try:
        return _with_host(httpx.URL(url))
    except UnicodeEncodeError:
        raise InvalidURLError("Lone surrogates") from None
    except httpx.InvalidURL as exc:
        # httpx's message first says what is wrong, and then quotes the URL.
        raise InvalidURLError(re.split("[:,]", str(exc))[0]) from None


def _with_host(url: httpx.URL) -> httpx.URL:
    """Return the URL, or raise if httpx can't read its host later: "xn--" begins Punycode, and is none."""
    try:
        _ = url.host
    except IDNAError:
        raise InvalidURLError("Invalid host or port") from None
    return url


def checked_params(params: object) -> httpx.QueryParams:
    """Return the parameters as httpx has them."""
    if params is None or isinstance(params, httpx.QueryParams):
        return httpx.QueryParams(params)
    if not isinstance(params, Mapping):
        raise _wrong_type("params", 'a mapping of names to values, such as {"topic": "a"}, or None', params)
    for name, value in cast("Mapping[object, object]", params).items():
        if not isinstance(name, str) or not _is_param(value):
            raise _wrong_type("params", f"a mapping of str to str, numbers, bool or None; see {name!r}", value)
    checked = httpx.QueryParams(cast("Mapping[str, str]", params))
    if any(_SURROGATES.search(name + value) for name, value in checked.multi_items()):
        raise ValueError("params must be without lone surrogates, because a URL can't carry them; replace them")
    return checked


def checked_origins(origins: object) -> tuple[Origin, ...]:
    """Return the origins that these texts name."""
    if isinstance(origins, (str, bytes)) or not isinstance(origins, Collection):
        raise _wrong_type("trusted_origins", 'a collection of str, such as ["https://stream.example.org"]', origins)
    return tuple(map(_checked_origin, cast("Collection[object]", origins)))


def check_seconds(name: str, value: object, *, zero: bool, none: str = "") -> None:
    """Raise for what is not a finite number of seconds. ``none`` says what None is for, where it is allowed."""
    if value is None and none:
        return
    hint = f", or None {none}" if none else ""
    checks.check_seconds(name, value, zero=zero, none=hint)
    if value == math.inf:
        raise wrong(ValueError, name, f"a finite number of seconds{hint}", value)


def check_function(name: str, function: object) -> None:
    """Raise TypeError for what can't be called, and for what would have to be awaited. None is allowed."""
    if function is not None:
        checks.check_function(name, function, "a function")


def _check_client(client: object) -> None:
    if client is None:
        return
    if not isinstance(client, httpx.AsyncClient):
        raise _wrong_type("client", "an httpx.AsyncClient or None", client)
    if client.is_closed:
        raise ValueError("client must be open, and this one is closed; open the event source inside its `async with`")


def _check_method(method: object) -> None:
    wanted = '"GET", "POST" or another method whose answer has a body'
    if not isinstance(method, str):
        raise wrong(TypeError, "method", wanted, method)
    if not _METHOD.fullmatch(method) or method.upper() in _WITHOUT_STREAM:
        raise wrong(ValueError, "method", wanted, method)


def _check_body(content: object, json: object) -> None:
    if content is not None and not isinstance(content, (str, bytes)):
        raise _wrong_type("content", "str, bytes or None, because each connection sends it again", content)
    if content is not None and json is not None:
        raise ValueError("content and json are both the request's body; give one of them")
    if isinstance(content, str) and _SURROGATES.search(content):
        raise ValueError("content must be without lone surrogates, because UTF-8 can't carry them; give bytes")
    try:
        httpx.Request("POST", "", json=json)
    except TypeError as exc:
        raise TypeError(f"json must be a value that JSON can express: {exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"json must be a value that JSON can express: {exc}") from exc


def _check_event_id(event_id: object) -> None:
    if not isinstance(event_id, str):
        raise wrong(TypeError, "last_event_id", 'a str, or "" if there is none', event_id)
    if _NOT_IN_IDS.search(event_id):
        wanted = "the id of an event, which has no line break, no NUL and no lone surrogate"
        raise wrong(ValueError, "last_event_id", wanted, event_id)


def _check_size(name: str, value: object) -> None:
    # Without the upper limit of check_count(): a huge number is a way to say that there is no limit.
    wanted = "an int, a number of bytes, 0 or more"
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong(TypeError, name, wanted, value)
    if value < 0:
        raise wrong(ValueError, name, wanted, value)


def _check_statuses(statuses: object) -> None:
    if not isinstance(statuses, Container) or isinstance(statuses, (str, bytes)):
        raise wrong(TypeError, "retry_statuses", "a collection of int, such as {429, 503}", statuses)
    if isinstance(statuses, (set, frozenset, list, tuple, dict)):
        for status in cast("Collection[object]", statuses):
            _check_status(status)


def _check_status(status: object) -> None:
    wanted = "HTTP statuses, int from 100 to 599"
    if not isinstance(status, int) or isinstance(status, bool):
        raise wrong(TypeError, "retry_statuses", wanted, status)
    if not 100 <= status <= 599:
        raise wrong(ValueError, "retry_statuses", wanted, status)


def _is_param(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(one, _PARAMS) for one in cast("Sequence[object]", value))
    return isinstance(value, _PARAMS)


def _checked_origin(text: object) -> Origin:
    if not isinstance(text, str):
        raise _wrong_type("trusted_origins", "a collection of str", text)
    url = checked_url(text)
    is_bare = url.raw_path == b"/" and not url.userinfo and not url.fragment
    name = url.host.removeprefix("*.")
    if url.scheme not in {"http", "https"} or not is_bare or not name or "*" in name:
        raise ValueError(
            'trusted_origins must be scheme, host and maybe port, such as "https://stream.example.org" or '
            '"https://*.example.org"; one of them has something more or less'
        )
    return Origin.of(url)
