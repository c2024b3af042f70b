# The content codings (RFC 9110 section 8.4.1): gzip, zstd and br, as something that is given text and returns bytes.
#
# Rule 1: what compress() has returned makes everything decodable that it was given. An event is never held back.
# Rule 2: a compressor lives as long as its stream, so its memory is what counts: the windows are small, and what each
#         takes is in docs/compression.md and held by a test. For events of a few hundred bytes more brings little.
# Rule 3: a library is imported when a response asks for its coding, and never else.

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, Literal, Protocol, TypeAlias, cast, get_args

from .._arguments.checks import shown

__all__ = ("SHARED_CODINGS", "Coding", "Compressor", "check_codings", "new_compressor", "new_raw_compressor")

Coding: TypeAlias = Literal["zstd", "br", "gzip"]
CODINGS: tuple[Coding, ...] = get_args(Coding)

SHARED_CODINGS: Final = ("zstd", "gzip")
"""Those that can go on after something that somebody else has compressed. A stream of brotli is one from its first
byte to its last."""

WINDOW_BITS = 13
"""8 KiB. gzip's is at most 32 KiB, and zstd's at most 8 MiB (RFC 9659)."""
GZIP_LEVEL = 6
GZIP_MEMORY_LEVEL = 5
ZSTD_LEVEL = 3
ZSTD_TABLE_LOG = 10
BROTLI_QUALITY = 3
"""4 and more take over twice the memory, for a sixth less bytes."""
BROTLI_WINDOW_BITS = 14

ZSTD_MODULE = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


class Compressor(Protocol):
    """What compresses one stream, or a part of one."""

    def compress(self, text: bytes, /) -> bytes:
        """Return bytes that make all of the text decodable, to one who was given all that it has returned."""
        ...

    def restart(self) -> None:
        """Refer to nothing that came before in what comes from now on."""

    def finish(self) -> bytes:
        """Return what ends the stream."""
        ...


class _Deflate:
    """RFC 1951, and RFC 1952 around it where the window bits say so."""

    __slots__ = ("_deflate",)

    def __init__(self, window_bits: int) -> None:
        self._deflate = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, window_bits, GZIP_MEMORY_LEVEL)

    def compress(self, text: bytes, /) -> bytes:
        return self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def restart(self) -> None:
        # What it returns is one more empty block between two whole bytes, which nobody needs.
        self._deflate.flush(zlib.Z_FULL_FLUSH)

    def finish(self) -> bytes:
        return self._deflate.flush()


class _Zstd:
    """RFC 8878, in frames without a checksum and without their size."""

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
        # What it returns is the frame's last block, an empty one. Whoever is in the frame is given it by its own coder.
        self._zstd.flush(self._zstd.FLUSH_FRAME)

    def finish(self) -> bytes:
        return cast("bytes", self._zstd.flush(self._zstd.FLUSH_FRAME))


class _Brotli:
    """RFC 7932."""

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
        return _Deflate(zlib.MAX_WBITS + 1 + WINDOW_BITS)  # zlib's way to say: with gzip's header and trailer
    return _Zstd() if coding == "zstd" else _Brotli()


def new_raw_compressor(coding: Coding) -> Compressor:
    """Return a compressor for parts that somebody else puts into streams, of one of SHARED_CODINGS."""
    return _Deflate(-WINDOW_BITS) if coding == "gzip" else _Zstd()


def check_codings(codings: object) -> None:
    """Raise for what is no choice of codings, or none that can be had here; with what to write or to install."""
    if isinstance(codings, str) or not isinstance(codings, Sequence):
        raise TypeError(
            'compress must be a sequence of codings, in order of preference: ("gzip",), or None for no compression, '
            f"not {shown(codings)}"
        )
    for coding in cast("Sequence[object]", codings):
        if coding not in CODINGS:
            raise ValueError(f"compress has {shown(coding)}; the codings are {', '.join(map(repr, CODINGS))}")
        _check_library(coding)


def _check_library(coding: Coding) -> None:
    name = {"gzip": "zlib", "br": "brotli", "zstd": ZSTD_MODULE}[coding]
    try:
        import_module(name)
    except ImportError as exc:
        raise ImportError(
            f"compress has {coding!r}, which needs {name}: install sse-trio[compress], or leave {coding!r} out",
            name=name,
        ) from exc
