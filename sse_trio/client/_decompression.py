# Decompression of what comes over a network, with bounds (RFC 9110 section 8.4.1).
#
# Rule 1: a few compressed bytes can be gigabytes, so one read() returns no more than about LIMIT bytes and does no more
#         work than they take. Data that decodes to nothing (empty blocks, empty frames) takes a read() too.
# Rule 2: `is_whole` says whether the compressed data ended well. What follows from it is the caller's decision.

from __future__ import annotations

from collections.abc import Sequence

from ._codecs import CODECS, LIMIT, Codec

__all__ = ("LIMIT", "DecompressionError", "Decompressor", "codings_of", "open_decompressor")


class DecompressionError(ValueError):
    """The data is not valid in its coding."""


class Decompressor:
    """Decompresses one body. Made by :func:`open_decompressor`."""

    __slots__ = ("_codec", "_data", "_frame", "_has_more", "_has_started")

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._frame = codec.new_frame()
        self._has_started = False
        self._has_more = False
        self._data = b""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing if the body ends here."""
        return self._frame.is_done or not self._has_started

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body, once read() has returned None."""
        self._data = data

    def read(self) -> bytes | None:
        """Return the next text, often b""; or None if it takes more bytes to go on.

        Raises:
            DecompressionError: the data is wrong, or goes on after its end.
        """
        if not self._data and not self._has_more:
            return None
        if self._frame.is_done:
            self._start_frame()
        self._has_started = True
        try:
            text, self._data, self._has_more = self._frame.step(self._data)
        except self._codec.errors as exc:
            raise DecompressionError(str(exc)) from exc
        return text

    def _start_frame(self) -> None:
        if not self._codec.repeats:
            raise DecompressionError("there is more data after the end of the compressed data")
        self._frame = self._codec.new_frame()


def codings_of(values: Sequence[str]) -> list[str]:
    """Return the codings of a body in the order they were applied, from the values of its Content-Encoding."""
    codings = [value.strip().lower().removeprefix("x-") if value else "" for value in values]
    return [coding for coding in codings if coding not in {"", "identity"}]


def open_decompressor(coding: str) -> Decompressor:
    """Return a decompressor for a body of this coding.

    Raises:
        LookupError: the coding is not known.
        ImportError: its library isn't installed.
    """
    return Decompressor(CODECS[coding]())
