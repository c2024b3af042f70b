"""Whatever a server sends, a bounded amount of work is done between two checkpoints, and a cancellation is prompt."""

from __future__ import annotations

import time
import zlib

import anyio
import brotli
import pytest

from sse_trio._compression.codings import ZSTD_MODULE
from sse_trio.client import EventSourceError, open_event_source

zstd = pytest.importorskip(ZSTD_MODULE)
pytestmark = [pytest.mark.anyio, pytest.mark.untraced]

MIB = 2**20
# CPU seconds, so that a busy machine changes nothing: far above what it takes, 5 to 10 ms, and far below what it took.
PATIENCE = 0.5


def gzipped(text):
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(text) + packer.flush()


PACK = {"gzip": gzipped, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}


class Turns:
    """The turns that another task gets."""

    def __init__(self):
        self.count = 0
        self.longest = 0.0

    async def count_them(self):
        last = time.thread_time()
        while True:
            await anyio.lowlevel.checkpoint()
            self.count += 1
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now


async def read_beside(server, *, until=10**9, **options):
    """Read to the end beside another task, or until that task has had this many turns; return its turns."""
    turns = Turns()
    async with server.client() as client, anyio.create_task_group() as tasks:
        tasks.start_soon(turns.count_them)

        async def read():
            try:
                async with open_event_source("/", client=client, reconnect=False, **options) as source:
                    async for _ in source:
                        pass
            except EventSourceError:
                pass
            tasks.cancel_scope.cancel()

        tasks.start_soon(read)
        while turns.count < until and not tasks.cancel_scope.cancel_called:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    return turns


# What is decoded is processed in the same way whatever it was packed with.
LINES = (b"\n", b":\n", b"data\n\n", b"id:1\n\n")
BOMBS = [*((coding, b"\n") for coding in PACK), *(("gzip", line) for line in LINES[1:])]


@pytest.mark.parametrize(("coding", "line"), BOMBS)
async def test_a_bomb_of_short_lines(serve, stream, coding, line):
    """A small body that is a MiB of short lines doesn't block the loop: others get a turn every 64 KiB or so."""
    bomb = PACK[coding](line * (MIB // len(line)))
    turns = await read_beside(serve(stream(bomb, content_encoding=coding)))
    assert turns.count >= MIB / 131_072
    assert turns.longest < PATIENCE


@pytest.mark.parametrize("line", [b"\n", b"d"])
async def test_many_tiny_chunks(serve, stream, line):
    """Many chunks of one byte that have all arrived don't block the loop either."""
    turns = await read_beside(serve(stream(*[lambda: line] * 5000)))
    assert turns.count >= 5000 / 50
    assert turns.longest < PATIENCE


async def test_one_large_chunk(serve, stream):
    """A chunk of any size, as some transports pass on, is processed in parts."""
    turns = await read_beside(serve(stream(b"\n" * MIB)))
    assert turns.count >= MIB / 131_072
    assert turns.longest < PATIENCE


async def test_empty_frames(serve, stream):
    """Empty frames don't block the loop either."""
    turns = await read_beside(serve(stream(zstd.compress(b"") * 5000, content_encoding="zstd")))
    assert turns.count >= 5000 / 50
    assert turns.longest < PATIENCE


@pytest.mark.parametrize("status", [200, 404])
async def test_cancelling_is_prompt(serve, stream, status):
    """A bomb, as a stream or as an error's body, can be cancelled at once: the remainder isn't decompressed."""
    server = serve(stream(gzipped(b"\n" * 64 * MIB), status=status, content_encoding="gzip"))
    start = time.thread_time()
    await read_beside(server, until=3, max_answer_size=2**40)
    assert time.thread_time() - start < PATIENCE
    assert server.open_bodies == 0


async def test_closing_is_bounded(serve, stream):
    """Unread chunks that have arrived are dropped a few at a time."""
    server = serve(stream(*[lambda: b"\n"] * 9000))
    turns = Turns()
    async with server.client() as client, anyio.create_task_group() as tasks:
        async with open_event_source("/", client=client) as source:
            source.close()
            tasks.start_soon(turns.count_them)
        tasks.cancel_scope.cancel()
    assert turns.longest < PATIENCE
