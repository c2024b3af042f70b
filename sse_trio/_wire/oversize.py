# OversizeEvent: reads an event that is larger than the decoder's limit, up to its blank line, and drops it.
#
# Rule 1: it keeps only the line that hasn't ended, which is bounded by the same limit.
# Rule 2: the result doesn't depend on how the bytes were cut into chunks: a line counts unless that line is too long.

from __future__ import annotations

__all__ = ("OversizeEvent",)


class OversizeEvent:
    """Takes the lines of a dropped event, with plain line ends, and returns those that count: ``id`` and ``retry``."""

    __slots__ = ("_is_line_too_long", "_limit", "_line", "is_done")

    def __init__(self, line: bytearray, limit: int) -> None:
        self._line = line
        self._limit = limit
        self._is_line_too_long = False
        self.is_done = False
        """Whether the event's blank line has come."""

    def take(self, part: bytes) -> str:
        """Take a line or a part of one. Return an ``id`` or ``retry`` line, without its end, once it is complete."""
        self._line += part
        if len(self._line) > self._limit:
            self._is_line_too_long, self._line = True, bytearray()
        return self._end_line() if part.endswith(b"\n") else ""

    def _end_line(self) -> str:
        line, self._line = bytes(self._line), bytearray()
        is_too_long, self._is_line_too_long = self._is_line_too_long, False
        self.is_done = line == b"\n" and not is_too_long
        counts = line.startswith((b"id", b"retry")) and not is_too_long
        return str(line[:-1], "utf-8", "replace") if counts else ""
