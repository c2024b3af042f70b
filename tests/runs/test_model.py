# Random histories of runs against a plain model: start, stop, watch, resume, crash, expire, replace, a store that is
# down.
#
# Rule 1: the model is a dictionary of lists: for each key what its producer was let through, and how it ended.
# Rule 2: processes are several `open_runs()` on one store. A crash is one that stops renewing and appending, at any
#         moment.
# Rule 3: every watcher keeps its own list, and reloads at random with its last id, in any process.

from __future__ import annotations

import json
import random
from contextlib import AsyncExitStack

import anyio
import pytest

from sse_trio import RunExistsError, open_hub, open_runs
from sse_trio.stores import MemoryStore

from .._volume import volume
from .conftest import stop_keeping
from .test_runs import make_holding

pytestmark = pytest.mark.anyio

KEYS = ("a", "b", "c")


class Trial:
    """A store, its processes, and the model."""

    def __init__(self, chance, lease, scale):
        self.chance = chance
        self.lease = lease
        self.scale = scale
        self.processes = []
        self.dead = set()
        self.sent = {}
        """What each run has sent, by its number: a producer notes an event when send() has taken it."""
        self.number_of = {}
        """The number of the run that is the latest of a key."""
        self.numbers = 0

    def alive(self):
        return self.chance.choice([runs for runs in self.processes if runs not in self.dead])

    async def produce(self, send_channel, number, events, ending):
        for n in range(events):
            self.sent[number].append(n)
            await send_channel.send(f"{number}:{n}")
            await anyio.sleep(self.chance.random() * self.scale)
        if ending == "fail":
            raise LookupError("of the model")

    async def start(self):
        key, number = self.chance.choice(KEYS), self.numbers
        self.numbers += 1
        self.sent[number] = []
        ending = self.chance.choice(("return", "return", "fail"))
        try:
            run = await self.alive().start(
                key, self.produce, number, self.chance.randrange(12), ending, replace=self.chance.random() < 0.7
            )
        except RunExistsError as exc:
            assert exc.state in ("completed", "failed", "stopped", "interrupted")
        else:
            if run.started_here:
                self.number_of[key] = number

    async def stop(self):
        key, runs = self.chance.choice(KEYS), self.alive()
        before = await runs.status(key)
        status = await runs.stop(key)
        # Another task may have started the run anew since it ended, and have begun to before it was to stop.
        assert status is None or status.state != "running" or before is None or status.started_at != before.started_at

    async def crash(self):
        if len(self.processes) - len(self.dead) > 1:
            runs = self.alive()
            self.dead.add(runs)
            for task in runs._tasks.values():
                stop_keeping(task)
            runs._tasks = {}  # a process that is gone knows nothing

    async def watch(self):
        """Watch a run to its end, with reloads; what was seen is a prefix of one run, and then one end."""
        key, last, seen, ends = self.chance.choice(KEYS), None, [], []
        if await self.alive().status(key) is None:
            return
        with anyio.move_on_after(max(60, 40 * self.lease)) as scope:
            while not ends:
                last = await self.watch_once(key, last, seen, ends)
        assert not scope.cancelled_caught, f"no end of {key} after {seen}"
        assert len(ends) == 1
        runs = list(dict.fromkeys(number for number, _ in seen))  # several, if it was replaced meanwhile
        for number in runs:
            got = [n for of, n in seen if of == number]
            assert got == [*range(len(got))] == self.sent[number][: len(got)], (key, number, got)
        assert [number for number, _ in seen] == sorted(number for number, _ in seen), "runs in disorder"
        if ends[0] in ("completed", "failed") and runs:
            got = [n for of, n in seen if of == runs[-1]]
            assert got == self.sent[runs[-1]], f"{key} has {ends[0]}, and an event was lost"

    async def watch_once(self, key, last, seen, ends):
        stay = self.chance.randrange(1, 9)
        async with self.alive().watch(key, after=last) as subscription:
            async for event in subscription:
                last = event.id
                if event.event == "gap":
                    seen.clear()  # replaced, or expired: it begins anew
                elif event.event == "end":
                    ends.append(json.loads(event.data)["state"])
                else:
                    number, n = event.data.split(":")
                    seen.append((int(number), int(n)))
                stay -= 1
                if not stay and not ends:
                    break
        return last


async def try_it(chance, open_process, steps, lease, scale, down=None):
    """Do random things for some time; at the end every key has ended in exactly one way."""
    trial = Trial(chance, lease, scale)
    async with AsyncExitStack() as stack:
        trial.processes += [await open_process(stack) for _ in range(5)]
        actions = [trial.start] * 6 + [trial.watch] * 8 + [trial.stop, trial.crash]
        async with anyio.create_task_group() as nursery:
            for _ in range(steps):
                nursery.start_soon(chance.choice(actions))
                await anyio.sleep(chance.random() * 3 * scale)
                if down is not None and chance.random() < 0.03:
                    down(True)
                    await anyio.sleep(chance.random() * lease / 2)
                    down(False)
        for key in KEYS:
            with anyio.fail_after(max(30, 20 * lease)):
                while (status := await trial.alive().status(key)) is not None and status.state == "running":
                    await anyio.sleep(lease / 4)
        await end_the_dead(trial)


async def end_the_dead(trial):
    for runs in trial.dead:
        runs._nursery.cancel_scope.cancel()
    await anyio.sleep(0)


@pytest.mark.parametrize("seed", range(volume(12)))
async def test_memory_store(seed):
    """One process after another on a store of one process: everything but crashes of others."""
    chance = random.Random(seed)

    async with open_hub(MemoryStore(max_events=20)) as hub:

        async def open_process(stack):
            return await stack.enter_async_context(open_runs(hub, lease=4, ttl=chance.choice((5, 1000))))

        await try_it(chance, open_process, 120, 4, 0.5)


@pytest.mark.parametrize("seed", range(volume(12)))
async def test_a_store_that_is_elsewhere(seed, make_remote_store):
    """Hubs that follow one store, which is down now and then, with virtual time."""
    chance = random.Random(seed)
    store = make_holding(make_remote_store())
    async with open_hub(store) as hub:

        async def open_process(stack):
            return await stack.enter_async_context(open_runs(hub, lease=4, ttl=1000))

        await try_it(chance, open_process, 120, 4, 0.5)


@pytest.mark.usefixtures("real_clock")
@pytest.mark.parametrize("seed", range(volume(2)))
async def test_shared_stores(seed, shared_store, request):
    """Hubs of their own on one file, on one Redis, and on one PostgreSQL, with the real clock."""
    is_slow = request.node.callspec.params["shared_store"] == "postgres"
    if seed and is_slow:
        pytest.skip("not applicable: one seed takes long enough on the slowest store")
    chance = random.Random(seed)

    async def open_process(stack):
        hub = await stack.enter_async_context(open_hub(shared_store(max_events=50)))
        return await stack.enter_async_context(open_runs(hub, lease=0.6))

    await try_it(chance, open_process, 50 if is_slow else 100, 0.6, 0.02)
