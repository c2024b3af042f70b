# What a client decodes with: each piece as it comes, and at the end whether the stream was whole.

from __future__ import annotations

import zlib
from importlib import import_module

import brotli

from sse_trio._compression.codings import ZSTD_MODULE

zstd = import_module(ZSTD_MODULE)


class Identity:
    is_whole = True

    def decode(self, data):
        return data


class Gzip:
    """One member, as HTTP clients read it."""

    def __init__(self):
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS + 16)

    def decode(self, data):
        text = self._inflate.decompress(data)
        assert not self._inflate.unused_data
        return text

    @property
    def is_whole(self):
        return self._inflate.eof  # length and checksum were right, or decode() had raised


class Zstd:
    """Frames, one after another."""

    def __init__(self):
        self._frame = zstd.ZstdDecompressor()

    def decode(self, data):
        text = b""
        while data:
            if self._frame.eof:
                self._frame = zstd.ZstdDecompressor()
            text += self._frame.decompress(data)
            data = self._frame.unused_data
        return text

    @property
    def is_whole(self):
        return self._frame.eof


class Brotli:
    def __init__(self):
        self._brotli = brotli.Decompressor()

    def decode(self, data):
        return self._brotli.process(data)

    @property
    def is_whole(self):
        return self._brotli.is_finished()


DECODERS = {None: Identity, "gzip": Gzip, "zstd": Zstd, "br": Brotli}
