# SQLiteStore with several processes on one file, and with processes that die. The long runs, and the figures, are those
# of benchmarks/sqlite_processes.py.

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from sse_trio.stores import EventId
from sse_trio.stores.sqlite import SQLiteStore
from sse_trio.testing._store_locations import ALL, read_all

from .._volume import volume

WORKER = Path(__file__).with_name("sqlite_worker.py")
ROOT = Path(__file__).parents[2]
KILLS = volume(20)
EVENTS = int(os.environ.get("SSE_TRIO_SQLITE_EVENTS", volume(8000)))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="not applicable: processes are forked here")


@pytest.fixture(params=["trio", "asyncio"])
def loop(request):
    """The event loop of the worker processes."""
    return request.param


def load_processes():
    path = ROOT / "benchmarks" / "sqlite_processes.py"
    spec = importlib.util.spec_from_file_location("sqlite_processes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kill_writers(loop, path, kills):
    """Run sqlite_worker.py. It imports what the tests import: the installed package under nox, else this folder's."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *sys.path]))}
    command = [sys.executable, str(WORKER), loop, str(path), str(kills)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout)


async def all_events(path):
    async with SQLiteStore(path) as store:
        events, _ = await read_all(store, ALL, None, limit=5000)
    return events


@pytest.mark.slow
def test_kill_9_loses_nothing_acknowledged_and_tears_no_append(tmp_path, loop):
    """After writers were killed while writing, all acknowledged events are there, each append whole."""
    path = tmp_path / "hub.db"
    acknowledged = kill_writers(loop, path, KILLS)
    events = anyio.run(all_events, path)
    sequences = {event.id.sequence for event in events}
    assert len(acknowledged) > 10 * KILLS
    assert len(set(acknowledged)) == len(acknowledged), "an id was given twice"
    assert all(first + n in sequences for first in acknowledged for n in range(5)), "something acknowledged is gone"
    appends = [event.payload.rsplit(b":", 1) for event in events]
    whole = [[(head, b"%d" % m) for m in range(5)] for head, _ in appends[::5]]
    assert [(head, m) for head, m in appends] == [pair for append in whole for pair in append]


@pytest.mark.slow
def test_four_processes_see_all_events_in_one_order(tmp_path, loop):
    """Four workers that open, write and follow one file together see all events in the same order."""
    result = load_processes().order(str(tmp_path / "hub.db"), loop, events=EVENTS, workers=4)
    assert result["events"] == EVENTS
    assert (result["lost"], result["doubled"], result["out_of_order"], result["orders"]) == (0, 0, 0, 1), result


@pytest.mark.slow
def test_another_process_is_woken_and_needs_no_poll(tmp_path, loop):
    """A subscriber in another process that never polls gets an event at once."""
    late = load_processes().latency(str(tmp_path / "hub.db"), loop, events=100, workers=2, interval=0.002)
    assert late["p50_ms"] < 50, "two milliseconds are usual; this only says that nothing polls"


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
