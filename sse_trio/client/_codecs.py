# The codecs: gzip, deflate, br and zstd, each by the library that there is, in one form with bounds.
#
# Rule 1: a library is imported when a response asks for its coding.
# Rule 2: no step returns more than about LIMIT bytes. A library that can't bound what it returns is given small pieces.

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple, Protocol

from .._compression.codings import ZSTD_MODULE

__all__ = ("CODECS", "LIMIT", "Codec", "Frame")

LIMIT = 65_536
"""About the most bytes that one step returns."""

# Bytes given at once to a library that can't bound what it returns. zstd's shortest block has 4 bytes, so that is half
# a MiB at most. brotli has no such bound: a gigabyte compressed to 800 bytes came to 32 MiB for 16 of them.
_PIECE = 16
# 8 MiB: RFC 9659 allows no larger window in a response.
_ZSTD_WINDOW_LOG = 23


class Frame(Protocol):
    """Decompresses a coded body, or one of its frames or members, from the start to the end."""

    @property
    def is_done(self) -> bool: ...

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Return text, the data to give again, and whether there may be more text without more data.

        Raises:
            Exception: an error of the library, because the data is wrong.
        """
        ...


class Codec(NamedTuple):
    """How a coding is decompressed."""

    new_frame: Callable[[], Frame]
    errors: type[Exception]
    """What the library raises for wrong data."""
    repeats: bool
    """Whether another frame may follow a frame's end."""


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
        # zlib may have consumed all of the data and still hold text.
        return text, self._zlib.unconsumed_tail, len(text) == LIMIT


class _Deflate:
    """RFC 1950, as the coding is defined, or bare RFC 1951, which many servers send under that name."""

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
        # brotli may accept more data and still hold text; only another call shows it.
        return text, b"", not self.is_done and (bool(text) or not self._brotli.can_accept_more_data())


class _InPieces:
    """A frame, with a library that decompresses all of its input at once."""

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


def _open_gzip() -> Codec:
    return Codec(_Zlib, zlib.error, repeats=True)


def _open_deflate() -> Codec:
    return Codec(_Deflate, zlib.error, repeats=False)


def _open_zstd() -> Codec:
    try:
        module = import_module(ZSTD_MODULE)
    except ImportError:
        return _open_zstandard(import_module("zstandard"))
    return Codec(lambda: _Zstd(module), module.ZstdError, repeats=True)


def _open_zstandard(module: Any) -> Codec:
    def new_frame() -> Frame:
        zstd = module.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG).decompressobj()
        return _InPieces(zstd.decompress, lambda: bool(zstd.eof), lambda: bytes(zstd.unused_data))

    return Codec(new_frame, module.ZstdError, repeats=True)


def _open_brotli() -> Codec:
    try:
        module = import_module("brotli")
    except ImportError:
        module = import_module("brotlicffi")
    return _open_brotli_of(module)


def _open_brotli_of(module: Any) -> Codec:
    def new_frame() -> Frame:
        brotli = module.Decompressor()
        if hasattr(brotli, "can_accept_more_data"):
            return _Brotli(brotli)
        return _InPieces(brotli.process, brotli.is_finished)

    return Codec(new_frame, module.error, repeats=False)


CODECS: Final[Mapping[str, Callable[[], Codec]]] = {
    "gzip": _open_gzip,
    "deflate": _open_deflate,
    "br": _open_brotli,
    "zstd": _open_zstd,
}
