"""Decompressing what comes over a network: gzip, deflate, br and zstd, within bounds."""

from __future__ import annotations

import zlib
from types import SimpleNamespace

import brotli
import pytest
import zstandard

from sse_trio._compression.codings import ZSTD_MODULE
from sse_trio.client import _codecs
from sse_trio.client._decompression import LIMIT, DecompressionError, Decompressor, codings_of, open_decompressor

zstd = pytest.importorskip(ZSTD_MODULE)
TEXT = b"".join(b"data: %d \xe2\x80\xa6\n\n" % n for n in range(2000))


def gzipped(text):
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(text) + packer.flush()


def raw_deflated(text):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(text) + packer.flush()


class OldBrotli:
    """brotli before 1.2, and brotlicffi: nothing bounds what comes out."""

    def __init__(self):
        brotli_ = brotli.Decompressor()
        self.process, self.is_finished = brotli_.process, brotli_.is_finished


OLD_BROTLI = SimpleNamespace(Decompressor=OldBrotli, error=brotli.error)
PACK = {
    "gzip": gzipped,
    "deflate": zlib.compress,
    "raw deflate": raw_deflated,
    "zstd": zstd.compress,
    "zstandard": zstandard.compress,
    "br": brotli.compress,
    "old br": brotli.compress,
}
OPEN = {
    "raw deflate": lambda: open_decompressor("deflate"),
    "zstandard": lambda: Decompressor(_codecs._open_zstandard(zstandard)),
    "old br": lambda: Decompressor(_codecs._open_brotli_of(OLD_BROTLI)),
}


@pytest.fixture(params=list(PACK))
def coding(request):
    return request.param


def open_(coding):
    return OPEN.get(coding, lambda: open_decompressor(coding))()


def unpack(decompressor, data, size=1000):
    """All the texts, read in turn, of data that is given in pieces of this size."""
    texts = []
    for start in range(0, len(data), size):
        decompressor.feed(data[start : start + size])
        while (text := decompressor.read()) is not None:
            texts.append(text)
    return texts


@pytest.mark.parametrize("size", [1, 7, 1000, 10**9])
def test_text(coding, size):
    """However the body is cut, the text is the same, and the body counts as complete only at its end."""
    decompressor, data = open_(coding), PACK[coding](TEXT)
    assert decompressor.is_whole  # nothing has come yet
    start = b"".join(unpack(decompressor, data[:-1], size))
    assert not decompressor.is_whole
    assert start + b"".join(unpack(decompressor, data[-1:])) == TEXT
    assert decompressor.is_whole


def test_a_read_is_bounded(coding):
    """A few bytes that decompress to 16 MiB of blank lines come in many small reads."""
    decompressor, bomb = open_(coding), PACK[coding](b"\n" * 2**24)
    texts = unpack(decompressor, bomb, 10**9)
    assert sum(map(len, texts)) == 2**24
    bound = {"zstandard": 2**19, "old br": 2**25}.get(coding, 2 * LIMIT)
    assert max(map(len, texts)) <= bound


@pytest.mark.parametrize("coding", ["gzip", "zstd", "zstandard"], indirect=True)
def test_one_after_another(coding):
    """Members of gzip and frames of zstd may follow each other, and a body may end between any two."""
    decompressor, frame = open_(coding), PACK[coding](TEXT)
    assert b"".join(unpack(decompressor, frame * 3)) == TEXT * 3
    assert decompressor.is_whole
    assert unpack(decompressor, frame[:5]) is not None
    assert not decompressor.is_whole


def test_empty_frames_are_work():
    """A body of empty frames takes as many reads as it has frames, so that a caller can pause between them."""
    empty = zstd.compress(b"")
    texts = unpack(open_decompressor("zstd"), empty * 1000, 10**9)
    assert b"".join(texts) == b""
    assert len(texts) >= 1000


def test_wrong_data(coding):
    """Data that isn't of the coding, or continues after its end, raises our own error."""
    with pytest.raises(DecompressionError):
        unpack(open_(coding), b"no such data, whatever the coding is\xff\xff")
    if coding in ("deflate", "br", "old br"):
        with pytest.raises(DecompressionError):
            unpack(open_(coding), PACK[coding](TEXT) + b"more")


def test_windows_are_bounded():
    """A zstd frame with a larger window than RFC 9659 allows is refused, because it would cost that much memory."""
    options = {zstd.CompressionParameter.window_log: 25}
    packer = zstd.ZstdCompressor(options=options)
    frame = packer.compress(b"x" * 2**25 + TEXT) + packer.flush()
    for coding in ("zstd", "zstandard"):
        with pytest.raises(DecompressionError):
            unpack(open_(coding), frame)


def test_names():
    """Codings are recognized in any case, with or without x-; identity means no coding."""
    assert codings_of(["X-GZIP", " br", "identity", ""]) == ["gzip", "br"]
    with pytest.raises(LookupError):
        open_decompressor("snappy")


def test_libraries_that_are_not_installed(monkeypatch):
    """zstd and br use whichever library is installed, and raise ImportError if none is."""
    installed = {"zstandard": zstandard, "brotlicffi": OLD_BROTLI}

    def import_module(name):
        if name not in installed:
            raise ImportError(f"no {name}", name=name)
        return installed[name]

    monkeypatch.setattr(_codecs, "import_module", import_module)
    for coding, other in (("zstd", "zstandard"), ("br", "old br")):
        assert b"".join(unpack(open_decompressor(coding), PACK[other](TEXT))) == TEXT
    installed.clear()
    for coding in ("zstd", "br"):
        with pytest.raises(ImportError):
            open_decompressor(coding)
