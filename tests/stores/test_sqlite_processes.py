# SQLiteStore with several processes on one file, and with processes that die.

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from sse_trio.stores import EventId
from sse_trio.stores.sqlite import SQLiteStore
from sse_trio.testing._store_places import ALL, read_all

WORKER = Path(__file__).with_name("sqlite_worker.py")
ROOT = Path(__file__).parents[2]
EVENTS = int(os.environ.get("SSE_TRIO_SQLITE_EVENTS", "8000"))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="not applicable: processes are forked here")


@pytest.fixture(params=["trio", "asyncio"])
def loop(request):
    """The event loop of the worker processes."""
    return request.param


@contextmanager
def worker(*args):
    """Run sqlite_worker.py. It imports what the tests import: the installed package under nox, else this folder's."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *sys.path]))}
    command = [sys.executable, str(WORKER), *map(str, args)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def answer(process):
    return json.loads(process.stdout.readline())


async def all_events(path):
    async with SQLiteStore(path) as store:
        events, _ = await read_all(store, ALL, None, limit=5000)
    return events


@pytest.mark.slow
def test_kill_9_loses_nothing_acknowledged_and_tears_no_append(tmp_path, loop):
    """After 20 writers were killed in mid-write all that they had acknowledged is there, each append whole."""
    path = tmp_path / "hub.db"
    with worker("crash", loop, path, 20) as process:
        acknowledged = answer(process)
    events = anyio.run(all_events, path)
    sequences = {event.id.sequence for event in events}
    assert len(acknowledged) > 200
    assert len(set(acknowledged)) == len(acknowledged), "an id was given twice"
    assert all(first + n in sequences for first in acknowledged for n in range(5)), "something acknowledged is gone"
    appends = [event.payload.rsplit(b":", 1) for event in events]
    whole = [[(head, b"%d" % m) for m in range(5)] for head, _ in appends[::5]]
    assert [(head, m) for head, m in appends] == [pair for append in whole for pair in append]


@pytest.mark.slow
def test_four_processes_see_all_events_in_one_order(tmp_path, loop):
    """Four workers publish to and follow one file, which all of them open at once: each sees all, in the same order."""
    path = tmp_path / "hub.db"
    with (
        worker("share", loop, path, EVENTS, 1) as one,
        worker("share", loop, path, EVENTS, 2) as two,
        worker("share", loop, path, EVENTS, 3) as three,
        worker("share", loop, path, EVENTS, 4) as four,
    ):
        workers = (one, two, three, four)
        assert [process.stdout.readline() for process in workers] == ["ready\n"] * 4
        for process in workers:
            process.stdin.write("go\n")
            process.stdin.flush()
        results = [answer(process) for process in workers]
    assert results[0]["seen"] == EVENTS
    assert results[0]["ordered"]
    assert results == [results[0]] * 4


@pytest.mark.slow
def test_another_process_is_woken_and_needs_no_poll(tmp_path, loop):
    """An event is with a follower in another process long before it would have looked by itself."""
    path = tmp_path / "hub.db"
    with worker("measure", loop, path, 100) as follower, worker("tick", loop, path, 100) as publisher:
        assert follower.stdout.readline() == "ready\n"
        publisher.stdin.write("go\n")
        publisher.stdin.flush()
        late = answer(follower)
    assert late["p50"] < 50, "half a second is the poll's, two milliseconds are usual"


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.usefixtures("real_clock")
async def test_an_idle_store_costs_next_to_nothing(tmp_path):
    """An open store with a follower and no events takes less than 0.5 % of a core."""
    async with SQLiteStore(tmp_path / "hub.db") as store, store.follow(EventId(store.epoch, 0)) as pages:
        with anyio.move_on_after(0.2):
            await anext(pages)
        wall, cpu = time.monotonic(), time.process_time()
        with anyio.move_on_after(1.5):
            await anext(pages)
        used = (time.process_time() - cpu) / (time.monotonic() - wall)
    assert used < 0.005, f"{used:.2%} of a core"
