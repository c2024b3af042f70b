# What it costs to publish without an event loop: one thread, and eight, to SQLite and to Redis.
#
#     python benchmarks/publisher.py sqlite
#     python benchmarks/publisher.py redis-server    # a program that it starts, and ends
#
# One line of JSON: the median and the 99th percentile of a publish in milliseconds, and the events per second of eight
# threads that share the publisher. SQLite is on the disk of the folder for temporary files, with synchronous=FULL.

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from sse_trio import StoreUnavailableError
from sse_trio.publisher import Publisher

EVENTS = 2000
THREADS = 8
DATA = "x" * 100


@contextmanager
def place(kind):
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            yield str(Path(folder, "hub.sqlite"))
            return
        path = Path(folder, "redis.sock")
        command = [kind, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                yield f"unix://{path}"
            finally:
                server.terminate()


def first(publisher):
    while True:  # until the server is there
        try:
            return publisher.publish("t", DATA)
        except StoreUnavailableError:
            time.sleep(0.01)


def one_thread(publisher):
    times = []
    for _ in range(EVENTS):
        began = time.perf_counter()
        publisher.publish("t", DATA)
        times.append(1000 * (time.perf_counter() - began))
    times.sort()
    return {"p50_ms": round(times[EVENTS // 2], 2), "p99_ms": round(times[EVENTS * 99 // 100], 2)}


def several_threads(publisher):
    def publish():
        for _ in range(EVENTS // THREADS):
            publisher.publish("t", DATA)

    threads = [threading.Thread(target=publish) for _ in range(THREADS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"threads": THREADS, "events_per_second": round(EVENTS / (time.perf_counter() - began))}


def main(kind):
    with place(kind) as url, Publisher(url, create=True) as publisher:
        first(publisher)
        print(json.dumps({"store": kind} | one_thread(publisher) | several_threads(publisher)))


if __name__ == "__main__":
    main(sys.argv[1])
