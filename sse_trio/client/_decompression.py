# Decompression of what comes over a network: gzip, deflate, br and zstd (RFC 9110 section 8.4.1), with bounds.
#
# Rule 1: a few compressed bytes can be gigabytes, so one read() returns no more than about LIMIT bytes and does no more
#         work than they take. What decodes to nothing (empty blocks, empty frames) counts as a read() too.
# Rule 2: whether the compressed data ended well is known (`is_whole`), and is the caller's to judge.
# Rule 3: a library is imported when a response asks for its coding. What a library can't bound, it is given in small
#         pieces.

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Protocol

from .._compression.codings import ZSTD_MODULE

__all__ = ("LIMIT", "DecompressionError", "Decompressor", "codings_of", "open_decompressor")

LIMIT = 65_536
"""About the most bytes that one read() returns."""

# Bytes given at once to a library that can't bound what it returns. zstd's shortest block has 4 bytes, so that is half
# a MiB at most. brotli has no such bound: where it had made 800 bytes of a gigabyte, 16 of them came to 32 MiB.
_PIECE = 16
# 8 MiB: RFC 9659 allows no larger window in a response.
_ZSTD_WINDOW_LOG = 23


class DecompressionError(ValueError):
    """The data isn't what its coding says."""


class _Frame(Protocol):
    """What decompresses from the start of a coded body, or of one of its frames or members, to its end."""

    @property
    def is_done(self) -> bool: ...

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Return text, which of the data is to be given again, and whether there may be more text without more data.

        Raises:
            Exception: one of the library's own. The data is wrong.
        """
        ...


class Decompressor:
    """Decompresses one body. Made by :func:`open_decompressor`."""

    __slots__ = ("_data", "_errors", "_frame", "_has_more", "_has_started", "_new_frame", "_repeats")

    def __init__(self, new_frame: Callable[[], _Frame], errors: type[Exception], *, repeats: bool) -> None:
        self._new_frame = new_frame
        self._errors = errors
        self._repeats = repeats
        self._frame = new_frame()
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
        """Return the next text, often none; or None if there is nothing more without more bytes.

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
        except self._errors as exc:
            raise DecompressionError(str(exc)) from exc
        return text

    def _start_frame(self) -> None:
        if not self._repeats:
            raise DecompressionError("there is more after the end of the compressed data")
        self._frame = self._new_frame()


class _Zlib:
    """A member of gzip (RFC 1952)."""

    def __init__(self, window_bits: int = zlib.MAX_WBITS | 16) -> None:
        self._zlib = zlib.decompressobj(window_bits)

    @property
    def is_done(self) -> bool:
        return self._zlib.eof

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        text = self._zlib.decompress(data, LIMIT)
        if self._zlib.eof:
            return text, self._zlib.unused_data, False
        # It may have taken all of the data and still hold text of it.
        return text, self._zlib.unconsumed_tail, len(text) == LIMIT


class _Deflate:
    """RFC 1950, which the coding is, or RFC 1951 alone, which many servers send under its name."""

    def __init__(self) -> None:
        self._start = b""
        self._zlib: _Zlib | None = None

    @property
    def is_done(self) -> bool:
        return self._zlib is not None and self._zlib.is_done

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        if self._zlib is None:
            data = self._start = self._start + data
            if len(data) < 2:
                return b"", b"", False
            is_wrapped = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._zlib = _Zlib(zlib.MAX_WBITS if is_wrapped else -zlib.MAX_WBITS)
        return self._zlib.step(data)


class _Zstd:
    """A frame of zstd (RFC 8878), with the decompressor of Python 3.14 and backports.zstd."""

    def __init__(self, module: Any) -> None:
        options = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        self._zstd = module.ZstdDecompressor(options=options)

    @property
    def is_done(self) -> bool:
        return bool(self._zstd.eof)

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        text: bytes = self._zstd.decompress(data, LIMIT)
        if self._zstd.eof:
            return text, self._zstd.unused_data, False
        return text, b"", not self._zstd.needs_input


class _Brotli:
    """A body of br (RFC 7932), with brotli 1.2 or newer."""

    def __init__(self, decompressor: Any) -> None:
        self._brotli = decompressor

    @property
    def is_done(self) -> bool:
        return bool(self._brotli.is_finished())

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        text: bytes = self._brotli.process(data, output_buffer_limit=LIMIT)
        # It may accept more and still hold text, which only asking for it shows.
        return text, b"", not self.is_done and (bool(text) or not self._brotli.can_accept_more_data())


class _InPieces:
    """A frame, with a library that decompresses all it is given at once."""

    def __init__(
        self,
        decompress: Callable[[bytes], bytes],
        is_done: Callable[[], bool],
        unused: Callable[[], bytes] = lambda: b"",
    ) -> None:
        self._decompress = decompress
        self._is_done = is_done
        self._unused = unused

    @property
    def is_done(self) -> bool:
        return self._is_done()

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        text = self._decompress(data[:_PIECE])
        remainder = data[_PIECE:]
        return text, self._unused() + remainder if self.is_done else remainder, False


def codings_of(values: Sequence[str]) -> list[str]:
    """Return how a body was compressed, in order, given the values of its Content-Encoding."""
    codings = [value.strip().lower().removeprefix("x-") if value else "" for value in values]
    return [coding for coding in codings if coding not in {"", "identity"}]


def open_decompressor(coding: str) -> Decompressor:
    """Return what decompresses a body of this coding.

    Raises:
        LookupError: there is no such coding.
        ImportError: its library isn't installed.
    """
    return _MAKERS[coding]()


def _open_gzip() -> Decompressor:
    return Decompressor(_Zlib, zlib.error, repeats=True)


def _open_deflate() -> Decompressor:
    return Decompressor(_Deflate, zlib.error, repeats=False)


def _open_zstd() -> Decompressor:
    try:
        module = import_module(ZSTD_MODULE)
    except ImportError:
        return _open_zstandard(import_module("zstandard"))
    return Decompressor(lambda: _Zstd(module), module.ZstdError, repeats=True)


def _open_zstandard(module: Any) -> Decompressor:
    def new_frame() -> _Frame:
        zstd = module.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG).decompressobj()
        return _InPieces(zstd.decompress, lambda: bool(zstd.eof), lambda: bytes(zstd.unused_data))

    return Decompressor(new_frame, module.ZstdError, repeats=True)


def _open_brotli() -> Decompressor:
    try:
        module = import_module("brotli")
    except ImportError:
        module = import_module("brotlicffi")
    return _open_brotli_of(module)


def _open_brotli_of(module: Any) -> Decompressor:
    def new_frame() -> _Frame:
        brotli = module.Decompressor()
        if hasattr(brotli, "can_accept_more_data"):
            return _Brotli(brotli)
        return _InPieces(brotli.process, brotli.is_finished)

    return Decompressor(new_frame, module.error, repeats=False)


_MAKERS: Final[Mapping[str, Callable[[], Decompressor]]] = {
    "gzip": _open_gzip,
    "deflate": _open_deflate,
    "br": _open_brotli,
    "zstd": _open_zstd,
}
