"""The three codings: everything decodable at once, a right end, and what they may take."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from sse_trio import EventSendChannel, EventSourceResponse
from sse_trio._compression.codings import SHARED_CODINGS, ZSTD_MODULE, Coding, new_compressor, new_raw_compressor

from ..wire._decoders import DECODERS, Zstd

CODINGS: tuple[Coding, ...] = ("zstd", "br", "gzip")
BODIES = [b"data: %d\n\n" % n * 7 for n in range(300)] + [b"x", bytes(range(256)) * 1000, b": ping\n\n"]


async def produce(send_channel: EventSendChannel) -> None:
    """Is never called."""
    raise NotImplementedError


@pytest.mark.parametrize("coding", CODINGS)
def test_everything_is_decodable_at_once(coding: Coding) -> None:
    """After each piece a decoder has all that went in; after the last it knows that this was all."""
    compressor, decoder = new_compressor(coding), DECODERS[coding]()
    for body in BODIES:
        assert decoder.decode(compressor.compress(body)) == body
        assert not decoder.is_whole
    assert decoder.decode(compressor.finish()) == b""
    assert decoder.is_whole


@pytest.mark.parametrize("coding", CODINGS)
def test_a_stream_of_nothing(coding: Coding) -> None:
    """A stream in which nothing was compressed is whole."""
    decoder = DECODERS[coding]()
    assert decoder.decode(new_compressor(coding).finish()) == b""
    assert decoder.is_whole


@pytest.mark.parametrize("coding", SHARED_CODINGS)
def test_after_a_restart_nothing_refers_back(coding: Coding) -> None:
    """After a restart, a compressor's output can be decoded without anything that came before it."""
    compressor = new_raw_compressor(coding)
    for body in BODIES:
        compressor.restart()
        decoder: Any = Zstd()
        header = b""
        if coding == "gzip":
            decoder, header = DECODERS["gzip"](), b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
        assert decoder.decode(header + compressor.compress(body)) == body


# What a compressor takes, as in docs/compression.md; of how many that is measured, and after how many events.
KIB: dict[str, tuple[int, int, int]] = {"gzip": (53, 100, 150), "zstd": (57, 100, 150), "br": (316, 12, 900)}
MEASURE = """
import sys
from sse_trio._compression.codings import new_compressor
def kib(): return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
coding, count, events = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def used():
    compressor = new_compressor(coding)
    for n in range(events):
        compressor.compress(b"data: %d %d %d\\n\\n" % (n, n * 7919, n**9) * 3)
    return compressor
kept = [used() for _ in range(count // 2)]  # what was free before is used up by then
before = kib()
kept += [used() for _ in range(count)]
print((kib() - before) / count)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="not applicable: reads /proc")
@pytest.mark.parametrize("coding", CODINGS)
def test_memory(coding: Coding) -> None:
    """A compressor takes what the page says, and no more however much goes through it."""
    kib, *counts = KIB[coding]
    command = [sys.executable, "-c", MEASURE, coding, *map(str, counts)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # Other builds of the libraries take less: Python 3.13's zlib 33 KiB, its Brotli 233.
    assert kib * 0.5 < float(done.stdout) < kib * 1.1


@pytest.mark.parametrize(
    ("compress", "error", "message"),
    [
        ("gzip", TypeError, r'\("gzip",\), or None for no compression; got .gzip.'),
        (5, TypeError, "compress must be a sequence of codings"),
        (False, TypeError, "or None for no compression; got False"),
        ({"gzip"}, TypeError, "in order of preference"),
        (("deflate",), ValueError, "each coding in compress must be one of 'zstd', 'br', 'gzip'; got 'deflate'"),
        ((None,), ValueError, "each coding in compress must be .*; got None"),
    ],
)
def test_what_is_no_choice(compress: Any, error: type[Exception], message: str) -> None:
    """A mistake is an error when the response is made, and says what would be right."""
    with pytest.raises(error, match=message):
        EventSourceResponse(produce, compress=compress)


@pytest.mark.parametrize("compress", [None, (), [], ["gzip"], ("zstd", "br", "gzip")])
def test_what_is_one(compress: Any) -> None:
    """Any sequence of them is taken, and None for none."""
    EventSourceResponse(produce, compress=compress)


@pytest.mark.parametrize(("coding", "module"), [("br", "brotli"), ("zstd", ZSTD_MODULE)])
def test_a_library_that_is_missing(coding: Coding, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A coding whose library is not installed is an error when the response is made, and names the extra."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"'{coding}', which needs {module}; install sse-trio\[compress\]") as caught:
        EventSourceResponse(produce, compress=("gzip", coding))
    assert caught.value.name == module
