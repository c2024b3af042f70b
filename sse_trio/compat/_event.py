# sse-starlette's events: any value as data, fields that can be changed until they are encoded, its order of fields.
#
# Rule 1: the bytes are those of sse-starlette, its mistakes included: line breaks in an id or an event type are taken
#         out without a word, and what is no text becomes what str() makes of it. sse_trio.ServerSentEvent refuses both.
# Rule 2: on the way to the writer the bytes travel as an event of sse_trio's that encodes to them (Chunk).

from __future__ import annotations

import re
from typing import Any, cast

from .._arguments.checks import check_text, shown
from .._wire import event as _event
from .._wire.json import dumps_compact

__all__ = ("Chunk", "JSONServerSentEvent", "ServerSentEvent", "ensure_bytes")

LINE_END = re.compile(r"\r\n|\r|\n")


class ServerSentEvent:
    r"""An event, as sse-starlette has it.

    Args:
        data: anything; ``str()`` of it is sent, a ``data`` field for each of its lines. ``None``: no data.
        event, id: line breaks in them are removed.
        retry: milliseconds.
        comment: a line for each of its lines.
        sep: the line end, ``"\r\n"`` by default. It counts, not that of the response.

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

    def encode(self) -> bytes:
        """Return the event as it is on the wire: comment, id, event, data, retry, and the blank line.

        Raises:
            TypeError: an ``id`` or ``event`` that is no ``str``, a ``retry`` that is no ``int``.
            ValueError: a lone surrogate, which UTF-8 can't carry.
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
        data: the value; ``None`` is no data. Beside what sse-starlette knows: what ``ServerSentEvent.json()`` of
            ``sse_trio`` does (dataclasses, ``datetime``, pydantic models).
        args, kwargs: as for :class:`ServerSentEvent`.

    Raises:
        TypeError, ValueError: a value that has no JSON form.
    """

    def __init__(self, data: Any | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(None if data is None else dumps_compact(data), *args, **kwargs)


def ensure_bytes(data: Any, sep: str) -> bytes:
    """Return what an item of a stream is on the wire.

    ``bytes`` and a ``memoryview`` are that already. An event encodes itself. A ``dict`` is the fields of one, and of
    anything else ``str()`` is the data; both with ``sep`` as line end. :class:`sse_trio.ServerSentEvent` has its place
    as well, with ``sep``.

    Raises:
        TypeError: a ``dict`` with a key that is no field; what :meth:`ServerSentEvent.encode` raises.
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
    return ServerSentEvent(str(data), sep=sep).encode()


class Chunk(_event.ServerSentEvent):
    """Bytes for the wire, in the clothes of an event. Internal."""

    __slots__ = ()

    def __init__(self, wire: bytes) -> None:
        super().__init__()
        object.__setattr__(self, "_wire", wire)

    def encode(self, sep: str = "\n") -> bytes:
        """Return the bytes, whatever the line end: they have theirs."""
        del sep
        return self._wire


def _without_line_ends(name: str, text: object) -> str:
    if not isinstance(text, str):
        msg = f"{name} must be a str, not {type(text).__name__}; write {name}=str(...)"
        raise TypeError(msg)
    return LINE_END.sub("", text)


def _milliseconds(retry: object) -> int:
    if not isinstance(retry, int):
        msg = f"retry must be an int of milliseconds, not {shown(retry)}; write retry=3000 for three seconds"
        raise TypeError(msg)
    return retry
