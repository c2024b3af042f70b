# What every test runs on.
#
# Rule 1: a test marked `anyio` runs on asyncio and on trio, both in virtual time. No test sleeps.
# Rule 2: a test that needs threads, sockets or processes says so with the fixture `real_clock`.
# Rule 3: in CI a test that would be skipped for want of a server, a browser or a peer fails. "not applicable: ..." is
#         another reason.
# Rule 4: a test that finds by volume (thousands of random scripts, of streams, of calls) is marked `untraced`. Tracing
#         would be two thirds of its time, and each line that it reaches has a test that says it once. How much of it
#         a run does, `volume()` says: all in CI, a tenth elsewhere (_volume.py).
# Rule 5: a test that fails by a real clock runs once more: all of tests/e2e, and what is on uvloop or asks for
#         `real_clock`. The machine may do other things meanwhile. It is printed ("RERUN") even if it passes then, to be
#         looked into. What runs in virtual time has no second try.

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from contextlib import asynccontextmanager

import anyio
import pytest

from sse_trio._errors import StoreUnavailableError
from sse_trio.stores import MemoryStore, TopicFilter
from sse_trio.stores._follower import Follower
from sse_trio.testing import virtual_backend

pytest_plugins = ["sse_trio.testing.pytest_plugin", "pytester"]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """Keep what was imported and collected from the garbage collector: thousands of tests, which stay to the end."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Give the tests that need a real clock a second try (rule 5), and have computing done while others wait."""
    place = mixed(dict.fromkeys(item.path for item in items))
    items.sort(key=lambda item: place[item.path])
    for item in items:
        if needs_real_clock(item):
            item.add_marker(pytest.mark.flaky(reruns=1))


def mixed(files):
    """Give each file a place: two others after each one that waits for real servers, so that none of these is last."""
    waiting = [file for file in files if "e2e" in file.parts]
    others = [file for file in files if "e2e" not in file.parts]
    return {file: 3 * n for n, file in enumerate(waiting)} | {file: 1 + 1.5 * n for n, file in enumerate(others)}


def needs_real_clock(item):
    params = getattr(item, "callspec", None) and item.callspec.params
    on_uvloop = "uvloop" in str((params or {}).get("anyio_backend", ""))
    return on_uvloop or "real_clock" in getattr(item, "fixturenames", ()) or "e2e" in item.path.parts


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Make a test that is skipped in CI fail, unless it makes no sense there."""
    report = yield
    if report.skipped and os.environ.get("CI") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if "not applicable" not in reason:
            report.outcome = "failed"
            report.longrepr = f"skipped, and in CI that is a failure: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Take coverage's tracer off for a test that is marked `untraced`, and off the threads that it starts."""
    # Not pytest-cov's `no_cover`: in a process of xdist it leaves a second tracer on, which it has started itself.
    if item.get_closest_marker("untraced") is None:
        return (yield)
    tracer, tracer_of_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        threading.settrace(tracer_of_threads)
        sys.settrace(tracer)


@pytest.fixture(autouse=True)
def signal_handlers():
    """Put back the handlers that a group of a test has gone before, where the test leaves its streams open."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def real_clock() -> None:
    """Say that this test needs the real clock: ``pytest.mark.usefixtures("real_clock")``."""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """The event loop of the test, with virtual time unless it asks for ``real_clock``."""
    return request.param if "real_clock" in request.fixturenames else virtual_backend(request.param)


class RemoteStore:
    """A store that is somewhere else, so that a hub has to follow it: it can be down, be slow, lose its history."""

    def __init__(self, **limits):
        self._limits = limits
        self._store = MemoryStore(**limits)
        self._changed = anyio.Event()
        self.is_down = False
        self.follows = True
        self.answers = True
        self.reads = 0
        self.reading = 0

    @property
    def epoch(self):
        return self._store.epoch

    async def __aenter__(self):
        self._check_up()
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *error):
        return await self._store.__aexit__(*error)

    def change(self, **attributes):
        """Set attributes, and wake whoever waits for them."""
        for name, value in attributes.items():
            setattr(self, name, value)
        self._changed.set()
        self._changed = anyio.Event()

    async def lose_history(self):
        """Begin a new one, as a Redis that was restarted without its file."""
        await self._store.__aexit__(None, None, None)
        self._store = MemoryStore(**self._limits)
        await self._store.__aenter__()
        self.change()

    def _check_up(self):
        if self.is_down:
            raise StoreUnavailableError("the remote store", "it is down") from OSError("no route")

    async def append(self, items, *, key=None):
        self._check_up()
        ids = await self._store.append(items, key=key)
        self.change()
        return ids

    async def read(self, topics, after, *, limit=256):
        self.reads += 1
        page = await self._store.read(topics, after, limit=limit)
        await self._wait_answer()
        return page

    async def read_last(self, topics, count):
        page = await self._store.read_last(topics, count)
        await self._wait_answer()
        return page

    async def _wait_answer(self):
        self.reading += 1
        try:
            while not self.answers:
                await self._changed.wait()
            self._check_up()
        finally:
            self.reading -= 1

    @asynccontextmanager
    async def follow(self, after):
        yield Follower(self._wait_page, after)

    async def _wait_page(self, after):
        while True:
            if self.follows and not self.is_down:
                page = await self._store.read(TopicFilter("*"), after)
                if page.events or page.gap:
                    return page
            await self._changed.wait()


@pytest.fixture
def make_remote_store():
    """Make a RemoteStore with these limits."""
    return RemoteStore


@pytest.fixture(scope="session")
def shared_postgres():
    """The PostgreSQL of this process: each test uses a hub name of its own, and leaves it running, harmed or not."""
    from .stores._postgres import PostgresServer, find_postgres  # not above: it is for systems with users and signals

    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = find_postgres()
    if programs is None:
        pytest.skip("there is no PostgreSQL: install Debian's postgresql, or set SSE_TRIO_POSTGRES_BIN")
    server = PostgresServer(programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()
