"""Decoders of event streams against each other: ``python benchmarks/decoder.py [--rounds N]``.

Needs httpx-sse, httpx2 and launchdarkly-eventsource. The rounds of all decoders are interleaved, so that a machine
that slows down slows all of them, and it is the processor's time that counts. A ratio is that of the fastest other
decoder's time to ours in the same round: over 1 means that ours is faster. Printed are the least time of each, and of
the ratios the median and the range.
"""

from __future__ import annotations

import argparse
import codecs
import gc
import statistics
import time

import httpx2._sse
import httpx_sse._decoders
import ld_eventsource.reader

from sse_trio._wire.decoder import EventDecoder

MIB = 2**20


def ours(chunks):
    decoder = EventDecoder(max_event_size=2**30)
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def httpx_sse_(chunks):
    text, lines, events = codecs.getincrementaldecoder("utf-8")("replace"), *new_httpx_sse()
    decoded = (events.decode(line.rstrip("\n")) for chunk in chunks for line in lines.decode(text.decode(chunk)))
    return [event for event in decoded if event is not None]


def new_httpx_sse():
    return httpx_sse._decoders.SSELineDecoder(), httpx_sse._decoders.SSEDecoder()


def httpx2_(chunks):
    text, parser = codecs.getincrementaldecoder("utf-8")("replace"), httpx2._sse._SSEParser(None)
    return [event for chunk in chunks for event in parser.decode(text.decode(chunk))]


def launchdarkly(chunks):
    lines = ld_eventsource.reader._BufferedLineReader.lines_from(chunks)
    return list(ld_eventsource.reader._SSEReader(lines).events_and_comments())


def chunks_of(stream, size):
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def streams():
    """Name, number of events, and the chunks of each stream; the chunks are of the size that a socket gives."""
    numbers, large = range(20_000), b"x" * 65_536
    tiny = b"".join(b"data: %d\n\n" % n for n in numbers)
    yield "tiny", 20_000, chunks_of(tiny, 65_536)
    yield "tiny, CRLF", 20_000, chunks_of(tiny.replace(b"\n", b"\r\n"), 65_536)
    yield "tiny, 1 KiB chunks", 20_000, chunks_of(tiny, 1024)
    yield "event, data", 20_000, chunks_of(b"".join(b'event: a\ndata: {"n":%d}\n\n' % n for n in numbers), 65_536)
    yield "id, event, data", 20_000, chunks_of(b"".join(b"id: %d\nevent: a\ndata: b\n\n" % n for n in numbers), 65_536)
    yield "three data lines", 20_000, chunks_of(b"".join(b"data: a\n" * 3 + b"\n" for _ in numbers), 65_536)
    yield "64 KiB", 200, chunks_of((b"data: " + large + b"\n\n") * 200, 65_536)
    yield "64 KiB, 16 KiB chunks", 200, chunks_of((b"data: " + large + b"\n\n") * 200, 16_384)
    yield "64 KiB, CRLF", 200, chunks_of((b"data: " + large + b"\r\n\r\n") * 200, 65_536)
    yield "64 KiB, not ASCII", 200, chunks_of((b"data: " + "\u00e9".encode() * 32_768 + b"\n\n") * 200, 65_536)


def seconds(function, *args):
    gc.collect()
    start = time.thread_time()
    function(*args)
    return time.thread_time() - start


def compare(name, events, chunks, rounds):
    decoders = (ours, httpx_sse_, httpx2_, launchdarkly)
    times = {decoder: [] for decoder in decoders}
    for number in range(1 + rounds):
        for decoder in decoders:
            duration = seconds(decoder, chunks)
            if number:  # the first round warms up
                times[decoder].append(duration)
    best = [min(times[decoder]) / events * 1e9 for decoder in decoders]
    ratios = [min(others) / mine for mine, *others in zip(*times.values(), strict=True)]
    print(f"{name:22}" + "".join(f"{value:13.0f}" for value in best), end="")
    print(f"{statistics.median(ratios):9.2f}x  ({min(ratios):.2f} to {max(ratios):.2f})")


def long_line(size):
    chunk = b"x" * 1024
    ours((b"data: ", *(chunk for _ in range(size // 1024)), b"\n\n"))


def data_lines(count):
    ours(chunks_of(b"data: 0123456789\n" * count + b"\n", 1024))


def scaling(name, run, size, rounds):
    once, twice = (min(seconds(run, n) for _ in range(rounds)) for n in (size, 2 * size))
    print(f"{name:22}{once * 1e3:9.1f} ms, double the input {twice * 1e3:9.1f} ms: {twice / once:.2f}x")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(
        f"{'ns per event':22}{'sse_trio':>13}{'httpx-sse':>13}{'httpx2':>13}{'launchdarkly':>13}   fastest other/ours"
    )
    for stream in streams():
        compare(*stream, rounds)
    scaling("a 50 MB line", long_line, 50 * MIB, 3)
    scaling("50,000 data lines", data_lines, 50_000, rounds)


if __name__ == "__main__":
    main()
