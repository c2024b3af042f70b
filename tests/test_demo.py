# What the demo's streams say: samples, their ids, and what is missing; what its clients count, and who may give orders.
# The page is tested with a browser in tests/e2e.

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import anyio
import pytest

from sse_trio import open_event_channel
from sse_trio.testing import open_test_stream

DEMO = Path(__file__).parents[1] / "examples" / "demo"
READING = {"cpu": {"average": 1.5}, "load": {"one": 0.5}}

pytestmark = pytest.mark.anyio


@pytest.fixture
def app(monkeypatch):
    """The module, imported as `python examples/demo` imports it."""
    monkeypatch.syspath_prepend(str(DEMO))
    yield importlib.import_module("app")
    for path in DEMO.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def recorder(app):
    """A recorder whose samples the test takes."""
    return app.Recorder()


async def follow(app, recorder, last, events):
    """A page that has the samples up to `last` gets this many events after the `hello`."""
    send_channel, receive_channel = open_event_channel(max_buffer_size=0)
    async with receive_channel, anyio.create_task_group() as task_group:
        task_group.start_soon(app.follow, send_channel, recorder, last)
        assert (await receive_channel.receive()).event == "hello"
        received = [await receive_channel.receive() for _ in range(events)]
        task_group.cancel_scope.cancel()
    return received


def record(recorder, samples):
    """Take this many samples, and return their times."""
    times = []
    for _ in range(samples):
        recorder._record(READING)
        times.append(recorder._samples[-1].time)
    return times


async def test_only_the_last_event_of_a_sample_has_its_id(app, recorder):
    """A page that was cut off in the middle of a sample has not seen its id."""
    [taken] = record(recorder, 1)
    cpu, load = await follow(app, recorder, None, events=2)
    assert (cpu.event, cpu.id) == ("cpu", None)
    assert (load.event, load.id) == ("load", str(taken))
    assert json.loads(load.data) == {"time": taken, "one": 0.5}


async def test_a_new_page_gets_the_whole_history(app, recorder):
    """A page without an id is sent all there is, the oldest first, and no gap."""
    times = record(recorder, 3)
    events = await follow(app, recorder, None, events=6)
    assert [int(event.id) for event in events if event.id] == times


async def test_a_page_gets_what_it_missed(app, recorder):
    """A page that reconnects is sent the samples after its id, and no gap."""
    first, second, third = record(recorder, 3)
    events = await follow(app, recorder, first, events=4)
    assert [int(event.id) for event in events if event.id] == [second, third]


async def test_a_page_waits_for_the_next_sample(app, recorder):
    """A page that has all there is gets the next sample when it is taken."""
    [newest] = record(recorder, 1)
    async with anyio.create_task_group() as task_group:

        async def later():
            await anyio.sleep(1)
            record(recorder, 1)

        task_group.start_soon(later)
        _, load = await follow(app, recorder, newest, events=2)
    assert int(load.id) > newest


async def test_a_restart_is_a_gap(app, recorder):
    """Samples from before this process began are reported as missing before anything else."""
    before = recorder.complete_after - 5000
    record(recorder, 1)
    gap, cpu, _ = await follow(app, recorder, before, events=3)
    assert (gap.event, gap.id, json.loads(gap.data)) == ("gap", None, {"after": before})
    assert cpu.event == "cpu"


async def test_what_the_history_lost_is_a_gap(app, recorder, monkeypatch):
    """A page that comes back for more than the history holds is told; one that needs the rest only, is not."""
    monkeypatch.setattr(app, "HISTORY", 3)
    recorder = app.Recorder()
    first, second, third, *_ = record(recorder, 5)
    assert recorder.complete_after == second
    assert [event.event for event in await follow(app, recorder, first, events=2)] == ["gap", "cpu"]
    events = await follow(app, recorder, second, events=2)
    assert [event.id for event in events] == [None, str(third)]


async def test_samples_are_taken_by_the_clock(app, recorder):
    """The recorder reads the machine once in an interval, all four kinds of it."""
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(recorder.run)
        await anyio.sleep(2.5 * app.INTERVAL)
        task_group.cancel_scope.cancel()
    assert len(recorder._samples) == 2
    events = recorder._samples[-1].events
    assert [event.event for event in events] == ["cpu", "memory", "network", "load"]


@pytest.mark.parametrize("text", [None, "", "x", "-1", "1.5", "\N{ARABIC-INDIC DIGIT ONE}", "1" * 16, "1\n"])
async def test_an_id_that_is_not_ours_is_no_id(app, text):
    """Anybody can send any id; one that no sample can have counts as none."""
    assert app._parse(text) is None


async def test_an_id_of_the_future_is_now(app):
    """After the clock was set back, a page that is ahead of it gets what comes from now on."""
    now = time.time_ns() // 1_000_000
    assert now <= app._parse("9" * 15) <= now + 10_000
    assert app._parse("1700000000000") == 1_700_000_000_000


# --- the panel


ORDER = {"x-demo": "1", "host": "127.0.0.1:8000"}


@pytest.mark.parametrize(
    ("name", "headers", "status"),
    [
        ("open", ORDER, 204),
        ("format", ORDER, 404),
        ("open", {"host": "127.0.0.1:8000"}, 403),
        ("open", {**ORDER, "host": "attacker.example"}, 403),
    ],
)
@pytest.mark.usefixtures("real_clock")
async def test_only_a_page_of_this_machine_gives_orders(app, name, headers, status):
    """An order that lacks the header, comes by a strange name, or isn't known is refused."""
    path = f"/orders/{name}"
    async with open_test_stream(app.app, path, method="POST", headers=headers, lifespan=True) as answer:
        assert answer.status_code == status


@pytest.mark.usefixtures("real_clock")
async def test_a_page_gets_the_last_report(app, tmp_path):
    """A page that is opened late shows at once what the clients have counted."""
    shared, panel = importlib.import_module("shared"), importlib.import_module("panel")
    async with shared.open_shared_hub(tmp_path) as hub, anyio.create_task_group() as task_group:
        await hub.publish(shared.REPORTS, "first")
        await hub.publish(shared.REPORTS, "last")
        send_channel, receive_channel = open_event_channel()
        async with receive_channel:
            task_group.start_soon(panel.follow_reports, send_channel, hub)
            report = await receive_channel.receive()
            assert (report.event, report.data, report.id) == ("report", "last", None)
            task_group.cancel_scope.cancel()


@pytest.mark.parametrize("module", ["app", "theirs"])
@pytest.mark.usefixtures("real_clock", "anyio_backend")
async def test_both_libraries_serve_the_numbers_with_the_same_producer(app, module, tmp_path, monkeypatch):
    """A client gets the numbers after its id; its producer counts as started, and as cleaned up when it has gone."""
    pytest.importorskip("sse_starlette")
    monkeypatch.setenv("DEMO_FOLDER", str(tmp_path))
    shared, served = importlib.import_module("shared"), importlib.import_module(module)
    async with shared.open_shared_hub(tmp_path) as hub:
        first = await hub.publish(shared.TOPIC, "1 ...")
        await hub.publish(shared.TOPIC, "2 ...")
        headers = {"last-event-id": str(first)}
        async with open_test_stream(served.app, "/numbers", headers=headers, lifespan=True) as stream:
            assert (await stream.receive()).data == "2 ..."
            with shared.Tally(tmp_path / ("sse_trio" if module == "app" else "sse-starlette")) as tally:
                assert tally.count() == (1, 0)
                stream.disconnect()
                await stream.wait_closed()
                assert tally.count() == (1, 1)


async def test_a_client_counts_what_is_lost_and_what_comes_twice(app):
    """A client sees each number that it skipped as lost, and each that it had as twice."""
    client = importlib.import_module("crew").Client("0")
    for number in (7, 8, 11, 11, 10, 12):
        client.note(number)
    assert (client.events, client.lost, client.twice, client.last) == (6, 2, 2, 12)


async def test_a_client_that_stalls_reads_on_later(app):
    """A client that was told to stall reads nothing for ten seconds, and then goes on."""
    client = importlib.import_module("crew").Client("0")
    async with anyio.create_task_group() as task_group:
        began = anyio.current_time()
        task_group.start_soon(client.stall)
        await anyio.wait_all_tasks_blocked()
        assert client.stalled
        await client.wait_reading()
        assert anyio.current_time() - began == pytest.approx(10)
    assert not client.stalled
