# What open_event_source() takes, and the words for what it doesn't.
#
# Rule 1: what makes no sense is a TypeError or a ValueError where the caller opens the source, and says what to write.
# Rule 2: no message has a URL, a parameter or a header's value in it: there may be a password.

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Collection, Container, Mapping, Sequence
from functools import partial
from typing import cast

import httpx

from ._redirects import Origin

__all__ = (
    "InvalidURLError",
    "check_body",
    "check_bool",
    "check_client",
    "check_event_id",
    "check_function",
    "check_method",
    "check_seconds",
    "check_size",
    "check_statuses",
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
    """The URL is none. Nothing of it is in the message, but for what kind of mistake it has."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} in the URL; if a user name or a password has '/', '?', '#' or '@' in it, write %2F, %3F, %23 "
            "or %40"
        )


def checked_url(url: object) -> httpx.URL:
    """Return the URL as httpx reads it."""
    if not isinstance(url, (str, httpx.URL)):
        raise TypeError(f"url must be a str or an httpx.URL, not {type(url).__name__}")
    try:
        return httpx.URL(url)
    except UnicodeEncodeError:
        raise InvalidURLError("Lone surrogates") from None
    except httpx.InvalidURL as exc:
        # Up to here, it says what is wrong; after it, it quotes.
        raise InvalidURLError(re.split("[:,]", str(exc))[0]) from None


def check_client(client: object) -> None:
    """Refuse what is no client that can send."""
    if client is None:
        return
    if not isinstance(client, httpx.AsyncClient):
        raise TypeError(f"client must be an httpx.AsyncClient or None, not {type(client).__name__}")
    if client.is_closed:
        raise ValueError("client is closed; open the event source inside its `async with`")


def check_method(method: object) -> None:
    """Refuse what is no method, and those whose answers have no body."""
    if not isinstance(method, str):
        raise TypeError(f'method must be a str such as "GET", not {type(method).__name__}')
    if not _METHOD.fullmatch(method) or method.upper() in _WITHOUT_STREAM:
        raise ValueError(f'method={method[:80]!r} can\'t get a stream; write "GET" or "POST"')


def checked_params(params: object) -> httpx.QueryParams:
    """Return the parameters as httpx has them."""
    if params is None or isinstance(params, httpx.QueryParams):
        return httpx.QueryParams(params)
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a mapping of names to values, not {type(params).__name__}")
    for name, value in cast("Mapping[object, object]", params).items():
        if not isinstance(name, str) or not _is_param(value):
            raise TypeError(f"params must have str for names, and str, numbers, bool or None for values; see {name!r}")
    checked = httpx.QueryParams(cast("Mapping[str, str]", params))
    if any(_SURROGATES.search(name + value) for name, value in checked.multi_items()):
        raise ValueError("params has a lone surrogate, which a URL can't have; replace it")
    return checked


def _is_param(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(one, _PARAMS) for one in cast("Sequence[object]", value))
    return isinstance(value, _PARAMS)


def check_body(content: object, json: object) -> None:
    """Refuse what is no body, or two."""
    if content is not None and not isinstance(content, (str, bytes)):
        raise TypeError(
            f"content must be str, bytes or None, not {type(content).__name__}: it is sent again by each connection"
        )
    if content is not None and json is not None:
        raise ValueError("content and json are both the request's body; give one of them")
    if isinstance(content, str) and _SURROGATES.search(content):
        raise ValueError("content has a lone surrogate, which UTF-8 can't write; give bytes, or replace it")
    _check_json(json)


def _check_json(json: object) -> None:
    try:
        httpx.Request("POST", "", json=json)
    except TypeError as exc:
        raise TypeError(f"json must be what JSON can say: {exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"json must be what JSON can say: {exc}") from exc


def check_event_id(event_id: object) -> None:
    """Refuse what no stream could have given as an id."""
    if not isinstance(event_id, str):
        raise TypeError(f'last_event_id must be a str, "" for none, not {type(event_id).__name__}')
    if _NOT_IN_IDS.search(event_id):
        raise ValueError(
            f"last_event_id={event_id[:80]!r} has a line break, a NUL or a lone surrogate, so no stream gave it"
        )


def check_bool(name: str, value: object, *, none: str = "") -> None:
    """Refuse what is neither True nor False. ``none`` says what None means, where it means something."""
    if isinstance(value, bool) or (value is None and none):
        return
    if none:
        raise TypeError(f"{name} must be True, False, or None for {none}; not {value!r}")
    raise TypeError(f"{name} must be True or False, not {value!r}")


def check_size(name: str, value: object) -> None:
    """Refuse what is no number of bytes."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, a number of bytes, not {value!r}")
    if value < 0:
        raise ValueError(f"{name} must be 0 or more bytes, not {_short(value)}")


def check_seconds(name: str, value: object, *, zero: bool, none: str = "") -> None:
    """Refuse what is no finite number of seconds. ``none`` says what None means, where it means something."""
    if value is None and none:
        return
    hint = f"; None {none}" if none else ""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}{hint}")
    if not _is_finite(value) or not (value > 0 or (zero and value == 0)):
        least = "0 or more" if zero else "more than 0"
        raise ValueError(f"{name} must be {least} seconds, and finite; not {_short(value)}{hint}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _short(value: float) -> str:
    # repr() of an int refuses more than 4300 digits.
    return repr(value) if isinstance(value, float) or abs(value) < 10**80 else "an int of more than 80 digits"


def check_statuses(statuses: object) -> None:
    """Refuse what holds no HTTP statuses."""
    if not isinstance(statuses, Container) or isinstance(statuses, (str, bytes)):
        raise TypeError(f"retry_statuses must be a collection of int, such as {{429, 503}}; not {statuses!r}")
    if isinstance(statuses, (set, frozenset, list, tuple, dict)):
        for status in cast("Collection[object]", statuses):
            _check_status(status)


def _check_status(status: object) -> None:
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"retry_statuses must hold int, such as 503, not {status!r}")
    if not 100 <= status <= 599:
        raise ValueError(f"retry_statuses must hold HTTP statuses, from 100 to 599, not {_short(status)}")


def check_function(name: str, function: object) -> None:
    """Refuse what can't be called, and what would have to be awaited."""
    if function is None:
        return
    if not callable(function):
        raise TypeError(f"{name} must be a function or None, not {function!r}; give the function, not its result")
    plain = function.func if isinstance(function, partial) else function
    if inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(getattr(plain, "__call__", None)):  # noqa: B004
        raise TypeError(f"{name} must be a plain function, as nothing awaits it; {function!r} is an async one")


def checked_origins(origins: object) -> tuple[Origin, ...]:
    """Return the origins that these texts name."""
    if isinstance(origins, (str, bytes)) or not isinstance(origins, Collection):
        raise TypeError('trusted_origins must be a collection of str, such as ["https://stream.example.org"]')
    return tuple(map(_origin, cast("Collection[object]", origins)))


def _origin(text: object) -> Origin:
    if not isinstance(text, str):
        raise TypeError(f"trusted_origins must hold str, not {type(text).__name__}")
    url = checked_url(text)
    is_bare = url.raw_path == b"/" and not url.userinfo and not url.fragment
    name = url.host.removeprefix("*.")
    if url.scheme not in {"http", "https"} or not is_bare or not name or "*" in name:
        raise ValueError(
            'trusted_origins must hold scheme, host and maybe port, such as "https://stream.example.org" or '
            '"https://*.example.org", and nothing else'
        )
    return Origin.of(url)
