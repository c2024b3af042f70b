# PlainLineEnds: removes the byte order mark of an event stream and makes every line end a LF.
#
# Rule 1: a CR becomes a LF at once. If a LF follows it, also in the next chunk, that one is dropped.
# Rule 2: at most two bytes are held back, at the very start: those that may begin a byte order mark.

from __future__ import annotations

__all__ = ("PlainLineEnds", "has_long_lines")

_BOM = b"\xef\xbb\xbf"
# Bytes in a line. Shorter lines are split faster all in one call, longer ones one by one with fewer copies
# (benchmarks/decoder.py).
_LONG_LINE = 512


class PlainLineEnds:
    """Removes a leading byte order mark and makes every CRLF and CR a LF (WHATWG HTML 9.2.5)."""

    __slots__ = ("_after_cr", "_start", "is_pending")

    def __init__(self) -> None:
        self.is_pending = True
        """Whether the next chunk must be fed even if it has no CR."""
        # The bytes of a byte order mark so far; None once it is known whether there is one.
        self._start: bytes | None = b""
        self._after_cr = False

    def feed(self, data: bytes) -> bytes:
        """Return the next bytes of the stream with plain line ends."""
        if self._start is not None:
            data = self._without_bom(self._start + data)
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = _replace_cr(data)
        self.is_pending = self._after_cr or self._start is not None
        return data

    def _without_bom(self, data: bytes) -> bytes:
        if _BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(_BOM)


def has_long_lines(data: bytes | bytearray) -> bool:
    """Return whether the line in the middle is long, as a sample for all lines. Only speed depends on it."""
    middle = len(data) // 2
    return middle > _LONG_LINE and data.find(b"\n", middle, middle + _LONG_LINE) < 0


def _replace_cr(data: bytes) -> bytes:
    if has_long_lines(data):
        # Searching for one byte is much faster than for two.
        first, *others = data.split(b"\r")
        return b"\n".join((first, *(part.removeprefix(b"\n") for part in others)))
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
