# sse-starlette's events: any value as data, fields that can change until they are encoded, its order of fields.
#
# Rule 1: the bytes are those of sse-starlette, its mistakes included: line breaks in an id or an event type are removed
#         silently, and a value that is not a str becomes str(value). sse_trio.ServerSentEvent refuses both.
# Rule 2: on their way to the writer, the bytes are a Chunk: an sse_trio event that encodes to them.

from __future__ import annotations

import re
from typing import Any, cast

from .._arguments.checks import check_text, shown, wrong
from .._wire import event as _event
from .._wire.json import dumps_compact

__all__ = ("Chunk", "JSONServerSentEvent", "ServerSentEvent", "ensure_bytes")

LINE_END = re.compile(r"\r\n|\r|\n")


class ServerSentEvent:
    r"""sse-starlette's event.

    Args:
        data: anything; ``str(data)`` is sent, a ``data`` field for each of its lines. ``None``: no data.
        event, id: line breaks in them are removed.
        retry: milliseconds.
        comment: a comment line is sent for each of its lines.
        sep: the line end, ``"\r\n"`` by default. It wins over the line end of the response.

    Nothing is checked before :meth:`encode`. :class:`sse_trio.ServerSentEvent` is checked where it is made.
    """

    DEFAULT_SEPARATOR = "\r\n"

    def __init__(
        self,
        data: Any | None = None,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 -- sse-starlette's, and the wire's own name
        retry: int | None = None,
        comment: str | None = None,
        sep: str | None = None,
    ) -> None:
        self.data: Any = data
        self.event: str | None = event
        self.id: str | None = id
        self.retry: int | None = retry
        self.comment: str | None = comment
        self._sep = self.DEFAULT_SEPARATOR if sep is None else sep

    def __repr__(self) -> str:
        fields = {name: value for name, value in vars(self).items() if value is not None and not name.startswith("_")}
        return f"{type(self).__name__}({', '.join(f'{name}={shown(value)}' for name, value in fields.items())})"

    def encode(self) -> bytes:
        """Return the event as it is on the wire: comment, id, event, data, retry, and the blank line.

        Raises:
            TypeError: ``id`` or ``event`` is not a ``str``, or ``retry`` is not an ``int``.
            ValueError: a field has a lone surrogate, which UTF-8 can't carry.
        """
        check_text("sep", self._sep)
        lines: list[str] = []
        if self.comment is not None:
            lines += [f": {line}" for line in LINE_END.split(str(self.comment))]
        if self.id is not None:
            lines.append(f"id: {_without_line_ends('id', self.id)}")
        if self.event is not None:
            lines.append(f"event: {_without_line_ends('event', self.event)}")
        if self.data is not None:
            lines += [f"data: {line}" for line in LINE_END.split(str(self.data))]
        if self.retry is not None:
            lines.append(f"retry: {_milliseconds(self.retry)}")
        return self._sep.join([*lines, "", ""] if lines else ["", ""]).encode()


class JSONServerSentEvent(ServerSentEvent):
    """An event whose data is a value as JSON on one line: compact, non-ASCII kept, NaN refused.

    Args:
        data: the value; ``None``: no data. Besides what sse-starlette accepts, it may be what
            ``sse_trio.ServerSentEvent.json()`` accepts (dataclasses, ``datetime``, pydantic models).
        args, kwargs: as for :class:`ServerSentEvent`.

    Raises:
        TypeError, ValueError: the value has no JSON form.
    """

    def __init__(self, data: Any | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(None if data is None else dumps_compact(data), *args, **kwargs)


def ensure_bytes(data: Any, sep: str) -> bytes:
    """Return the bytes of a stream's item.

    ``bytes`` and a ``memoryview`` are sent unchanged. An event encodes itself. A ``dict`` holds the fields of an event;
    for any other item, ``str(item)`` is the data; both with ``sep`` as line end. An :class:`sse_trio.ServerSentEvent`
    is encoded with ``sep``, too. An event of sse-starlette itself, from a module that still imports it, encodes itself.

    Raises:
        TypeError: a ``dict`` has a key that is not a field; what :meth:`ServerSentEvent.encode` raises.
    """
    if isinstance(data, bytes | memoryview):
        return bytes(cast("bytes", data))
    if isinstance(data, ServerSentEvent):
        return data.encode()
    if isinstance(data, _event.ServerSentEvent):
        return data.encode(sep)
    if isinstance(data, dict):
        fields: dict[str, Any] = {**data, "sep": sep}
        return ServerSentEvent(**fields).encode()
    if not isinstance(data, str) and _is_original(data):
        return cast("bytes", data.encode())
    return ServerSentEvent(str(data), sep=sep).encode()


def _is_original(data: Any) -> bool:
    # By name, because sse-starlette need not be there, and replaces a method of uvicorn when it is imported.
    names = [(kind.__module__, kind.__name__) for kind in type(data).__mro__]
    return ("sse_starlette.event", "ServerSentEvent") in names


class Chunk(_event.ServerSentEvent):
    """An event that encodes to the bytes it was given. Internal."""

    __slots__ = ()

    def __init__(self, wire: bytes) -> None:
        super().__init__()
        object.__setattr__(self, "_wire", wire)

    def encode(self, sep: str = "\n") -> bytes:
        """Return the bytes. They have their own line ends, so ``sep`` does nothing."""
        del sep
        return self._wire


def _without_line_ends(name: str, text: object) -> str:
    if not isinstance(text, str):
        raise wrong(TypeError, name, f"a str; write {name}=str(...)", text)
    return LINE_END.sub("", text)


def _milliseconds(retry: object) -> int:
    if not isinstance(retry, int):
        raise wrong(TypeError, "retry", "an int of milliseconds, such as 3000 for three seconds", retry)
    return retry
