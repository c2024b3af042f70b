# The content codings gzip, zstd and br (RFC 9110 section 8.4.1), as compressors.
#
# Rule 1: after each compress() the client can decode all text so far. An event is never held back.
# Rule 2: a compressor lives as long as its stream, so its windows are small to save memory. docs/compression.md has the
#         figures, and a test checks them. For events of a few hundred bytes, larger windows gain little.
# Rule 3: a compression library is imported only when a response uses its coding.

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, Literal, Protocol, TypeAlias, cast, get_args

from .._arguments.checks import wrong

__all__ = ("SHARED_CODINGS", "Coding", "Compressor", "check_codings", "new_compressor", "new_raw_compressor")

Coding: TypeAlias = Literal["zstd", "br", "gzip"]
CODINGS: tuple[Coding, ...] = get_args(Coding)

SHARED_CODINGS: Final = ("zstd", "gzip")
"""Codings whose streams can contain parts from several compressors. A brotli stream can't."""

WINDOW_BITS = 13
"""8 KiB. gzip allows 32 KiB, and zstd 8 MiB (RFC 9659)."""
GZIP_LEVEL = 6
GZIP_MEMORY_LEVEL = 5
ZSTD_LEVEL = 3
ZSTD_TABLE_LOG = 10
BROTLI_QUALITY = 3
"""Quality 4 and more takes over twice the memory and saves a sixth of the bytes."""
BROTLI_WINDOW_BITS = 14

ZSTD_MODULE = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


class Compressor(Protocol):
    """Compresses one stream, or parts of many streams."""

    def compress(self, text: bytes, /) -> bytes:
        """Compress the text. With all the bytes returned so far, a client can decode all the text so far."""
        ...

    def restart(self) -> None:
        """Forget earlier text: what follows refers to nothing before it."""

    def finish(self) -> bytes:
        """Return the end of the compressed stream."""
        ...


class _Deflate:
    """Deflate (RFC 1951), in gzip's format (RFC 1952) if the window bits ask for it."""

    __slots__ = ("_deflate",)

    def __init__(self, window_bits: int) -> None:
        self._deflate = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, window_bits, GZIP_MEMORY_LEVEL)

    def compress(self, text: bytes, /) -> bytes:
        return self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def restart(self) -> None:
        # The flush returns an empty block. It can be dropped, because it is aligned to whole bytes.
        self._deflate.flush(zlib.Z_FULL_FLUSH)

    def finish(self) -> bytes:
        return self._deflate.flush()


class _Zstd:
    """zstd (RFC 8878), in frames without a checksum or a size."""

    __slots__ = ("_zstd",)

    def __init__(self) -> None:
        module = import_module(ZSTD_MODULE)
        parameter = module.CompressionParameter
        options = {
            parameter.compression_level: ZSTD_LEVEL,
            parameter.window_log: WINDOW_BITS,
            parameter.hash_log: ZSTD_TABLE_LOG,
            parameter.chain_log: ZSTD_TABLE_LOG,
        }
        self._zstd: Any = module.ZstdCompressor(options=options)

    def compress(self, text: bytes, /) -> bytes:
        return cast("bytes", self._zstd.compress(text, self._zstd.FLUSH_BLOCK))

    def restart(self) -> None:
        # The flush returns the frame's last block, an empty one. Each subscriber's own coder ends the frame instead.
        self._zstd.flush(self._zstd.FLUSH_FRAME)

    def finish(self) -> bytes:
        return cast("bytes", self._zstd.flush(self._zstd.FLUSH_FRAME))


class _Brotli:
    """Brotli (RFC 7932)."""

    __slots__ = ("_brotli",)

    def __init__(self) -> None:
        module = import_module("brotli")
        self._brotli: Any = module.Compressor(mode=module.MODE_TEXT, quality=BROTLI_QUALITY, lgwin=BROTLI_WINDOW_BITS)

    def compress(self, text: bytes, /) -> bytes:
        return cast("bytes", self._brotli.process(text) + self._brotli.flush())

    def restart(self) -> None:
        raise NotImplementedError

    def finish(self) -> bytes:
        return cast("bytes", self._brotli.finish())


def new_compressor(coding: Coding) -> Compressor:
    """Return a compressor for a whole stream."""
    if coding == "gzip":
        return _Deflate(zlib.MAX_WBITS + 1 + WINDOW_BITS)  # zlib's way to ask for gzip's header and trailer
    return _Zstd() if coding == "zstd" else _Brotli()


def new_raw_compressor(coding: Coding) -> Compressor:
    """Return a compressor whose output has no header or trailer, for one of SHARED_CODINGS."""
    return _Deflate(-WINDOW_BITS) if coding == "gzip" else _Zstd()


def check_codings(codings: object) -> None:
    """Raise unless the value is a sequence of codings whose libraries are installed."""
    if isinstance(codings, str) or not isinstance(codings, Sequence):
        wanted = 'a sequence of codings in order of preference, such as ("gzip",), or None for no compression'
        raise wrong(TypeError, "compress", wanted, codings)
    for coding in cast("Sequence[object]", codings):
        if coding not in CODINGS:
            raise wrong(ValueError, "each coding in compress", f"one of {', '.join(map(repr, CODINGS))}", coding)
        _check_library(coding)


def _check_library(coding: Coding) -> None:
    name = {"gzip": "zlib", "br": "brotli", "zstd": ZSTD_MODULE}[coding]
    try:
        import_module(name)
    except ImportError as exc:
        raise ImportError(
            f"compress has {coding!r}, which needs {name}; install sse-trio[compress], or leave {coding!r} out",
            name=name,
        ) from exc
