# OversizeEvent: an event that is larger than the decoder's limit, on its way to its blank line.
#
# Rule 1: nothing is kept of it but the line that hasn't ended, which is bounded by the same limit.
# Rule 2: what it comes to doesn't depend on how the bytes were cut: a line counts unless it is too long by itself.

from __future__ import annotations

__all__ = ("OversizeEvent",)


class OversizeEvent:
    """Takes the lines of an event that is dropped, with plain line ends, and finds those that count nevertheless."""

    __slots__ = ("_is_line_too_long", "_limit", "_line", "is_done")

    def __init__(self, line: bytearray, limit: int) -> None:
        self._line = line
        self._limit = limit
        self._is_line_too_long = False
        self.is_done = False
        """Whether its blank line has come."""

    def take(self, part: bytes) -> str:
        """Take a line, or a part of one. Return the line if it ends here and sets an id or a retry, without its end."""
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
