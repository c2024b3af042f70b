# The request of a test, from the arguments of open_test_stream(): its scope and its body.
#
# Rule: bad arguments are errors of the test's own line, before anything runs.

from __future__ import annotations

import json as json_module
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlencode

from .._arguments.checks import check_text, is_series, members_of, wrong
from ._scope import http_scope

if TYPE_CHECKING:
    import sys

    from starlette.types import Scope

    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self

__all__ = ("MISSING", "RequestChunks", "body_of", "scope_of")

MISSING = object()


def body_of(json: object, content: bytes | str) -> RequestChunks:
    """Return the body of the request: the JSON form of a value if there is one, else the content."""
    if not isinstance(content, bytes):
        check_text("content", content, "bytes or a str")
    body = content if json is MISSING else _dump(json)
    return RequestChunks(body.encode() if isinstance(body, str) else body)


def scope_of(
    method: str,
    path: str,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] | None,
    params: Mapping[str, object] | Sequence[tuple[str, object]] | None,
    state: Mapping[str, object] | None,
    own_headers: Sequence[tuple[str, str]],
) -> Scope:
    """Return the scope of the request. Of our own headers it has those that the test doesn't give."""
    given = _header_pairs(headers)
    names = {name.lower() for name, _ in given}
    own = [("host", "testserver"), ("accept", "text/event-stream"), *own_headers]
    raw_path, _, query = path.partition("?")
    return http_scope(
        method,
        unquote(raw_path),
        raw_path=raw_path.encode(),
        query_string="&".join(filter(None, [query, urlencode(_pairs("params", params), doseq=True)])).encode(),
        headers=[
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in [*(each for each in own if each[0] not in names), *given]
        ],
        state=state,
    )


def _dump(value: object) -> str:
    try:
        return json_module.dumps(value)
    except (TypeError, ValueError) as exc:
        raise type(exc)(f"json must be a value that has a JSON form; {exc}") from exc


class RequestChunks:
    """The body of a request, available at once."""

    def __init__(self, content: bytes) -> None:
        self._chunks = [content] if content else []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.pop()


_PAIRS = "a mapping, or a sequence of (name, value) pairs"


def _header_pairs(headers: object) -> list[tuple[str, str]]:
    # Any text that a hostile client can send is allowed.
    pairs = _pairs("headers", headers)
    for name, value in pairs:
        if not isinstance(value, str) or not f"{name}{value}".isascii():
            _check_latin1(name, value)
    return pairs


def _check_latin1(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise wrong(TypeError, "headers", f"{_PAIRS}, both str", (name, value))
    try:
        f"{name}{value}".encode("latin-1")
    except UnicodeEncodeError:
        raise wrong(ValueError, "headers", "bytes of HTTP as text, in latin-1", (name, value)) from None


def _pairs(parameter: str, given: object) -> list[tuple[str, Any]]:
    items: object = [*cast("Mapping[object, object]", given).items()] if isinstance(given, Mapping) else given
    if items is None:
        return []
    if not is_series(items):
        raise wrong(TypeError, parameter, _PAIRS, items)
    return [_pair(parameter, item) for item in cast("Iterable[object]", items)]


def _pair(parameter: str, item: object) -> tuple[str, Any]:
    pair = members_of(item)
    if len(pair) != 2 or not isinstance(pair[0], str):
        raise wrong(TypeError, parameter, _PAIRS, item)
    return pair[0], pair[1]
