# PlainLineEnds: the bytes of an event stream without its byte order mark, and with every line end a LF.
#
# Rule 1: a CR becomes a LF at once. The LF that may follow it, in the next chunk perhaps, is then dropped.
# Rule 2: only what could be a byte order mark is ever held back: at most two bytes, at the very start.

from __future__ import annotations

__all__ = ("PlainLineEnds", "has_long_lines")

_BOM = b"\xef\xbb\xbf"
# Splitting many lines in one call and splitting them one by one, with fewer copies, break even at about this many bytes
# a line (benchmarks/decoder.py).
_LONG_LINE = 512


class PlainLineEnds:
    """Removes a leading byte order mark and makes every CRLF and CR a LF (WHATWG HTML 9.2.5)."""

    __slots__ = ("_after_cr", "_start", "is_pending")

    def __init__(self) -> None:
        self.is_pending = True
        """Whether the next chunk has to come here even if there is no CR in it."""
        # The bytes of a byte order mark so far; None once it is known whether there is one.
        self._start: bytes | None = b""
        self._after_cr = False

    def feed(self, data: bytes) -> bytes:
        """Return what the next bytes of the stream are with plain line ends."""
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
    """Whether the line in the middle is long. It stands for all: only speed depends on it."""
    middle = len(data) // 2
    return middle > _LONG_LINE and data.find(b"\n", middle, middle + _LONG_LINE) < 0


def _replace_cr(data: bytes) -> bytes:
    if has_long_lines(data):
        # Searching for one byte is much faster than for two.
        first, *others = data.split(b"\r")
        return b"\n".join((first, *(part.removeprefix(b"\n") for part in others)))
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
