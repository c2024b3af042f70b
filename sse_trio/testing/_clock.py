# Virtual time: an asyncio loop that does what trio's MockClock does for trio. A test that sleeps for an hour takes a
# millisecond.
#
# Rule 1: time stands still while anything can run, and then moves straight to the next timer. Nothing sleeps.
# Rule 2: threads and sockets live in real time, so virtual time would move past them. A watch notices a test that uses
#         one, and the plugin fails that test, so that a wrong result never goes unnoticed.
# Rule 3: a clock belongs to one run. virtual_backend() makes a new one each time; the module keeps nothing.
#
# Over 250 lines, because it does one thing for two event loops, which share their watch.

from __future__ import annotations

import asyncio
import math
import selectors
import threading
from typing import TYPE_CHECKING, Any, cast

import anyio

from .._arguments.checks import members_of, wrong
from .._errors import SSEError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from contextvars import Context
    from typing import NoReturn

    from typing_extensions import TypeVarTuple, Unpack

    Arguments = TypeVarTuple("Arguments")

__all__ = ("VirtualTimeError", "virtual_backend", "wait_all_tasks_blocked")

_A_THREAD = "a thread (where `def` endpoints and dependencies run, too)"
_A_SOCKET = "a socket (or a pipe, or a process)"


class VirtualTimeError(SSEError, RuntimeError):
    """A test under virtual time used something that lives in real time, so its result means nothing.

    Run the test on the real clock, or replace the thread or socket by a fake.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} was in use under virtual time, which doesn't wait for it: timers run out before it answers. "
            "Run this test on the real clock (without `autojump` or virtual_backend()), or replace it by a fake"
        )


class Watch:
    """Remembers the first use of something that virtual time can't wait for."""

    def __init__(self) -> None:
        self._complaint: VirtualTimeError | None = None

    def complain(self, what: str) -> VirtualTimeError:
        self._complaint = self._complaint or VirtualTimeError(what)
        return self._complaint

    def check(self) -> None:
        """Raise the complaint, if there is one, and forget it."""
        complaint, self._complaint = self._complaint, None
        if complaint is not None:
            raise complaint


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that lets virtual time pass where it would wait."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        # Nothing can run. From here on the loop is idle.
        if self.loop.wake_idle_waiters():
            return []
        self.loop.check_sockets()
        if timeout is None:
            # There is no timer to move to: only a thread or a signal handler can continue.
            return super().select(None)
        self.loop.jump(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose time is a number that moves when nothing else can happen. It starts at 0."""

    _clock_resolution: float  # asyncio's own

    def __init__(self, watch: Watch | None = None) -> None:
        self.now = 0.0
        self._watch = watch or Watch()
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._home_thread = threading.get_ident()
        self._jumping_selector = _JumpingSelector()
        self._jumping_selector.loop = self
        super().__init__(self._jumping_selector)
        # The loop's own wake-up pipe is in there already.
        self._own_files = len(self._jumping_selector.get_map())

    def time(self) -> float:
        return self.now

    def jump(self, seconds: float) -> None:
        self.now += seconds
        # asyncio runs the timers before time() plus this. After half a year, a nanosecond more is the same float, and
        # a timer that is due would never run.
        self._clock_resolution = max(self._clock_resolution, math.ulp(self.now))

    def run_forever(self) -> None:
        self._home_thread = threading.get_ident()
        super().run_forever()

    async def wait_idle(self) -> None:
        """Block until no callback is ready and only a timer can make one ready."""
        waiter: asyncio.Future[None] = self.create_future()
        self._idle_waiters.append(waiter)
        await waiter

    def wake_idle_waiters(self) -> bool:
        waiters, self._idle_waiters = self._idle_waiters, []
        waiting = [waiter for waiter in waiters if not waiter.done()]
        for waiter in waiting:
            waiter.set_result(None)
        return bool(waiting)

    def check_sockets(self) -> None:
        if len(self._jumping_selector.get_map()) > self._own_files:
            self._watch.complain(_A_SOCKET)

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Arguments]], object],
        *args: Unpack[Arguments],
        context: Context | None = None,
    ) -> asyncio.Handle:
        # From the loop's own thread it is the signal-safe call_soon, and harmless.
        if threading.get_ident() != self._home_thread:
            self._watch.complain(_A_THREAD)
        return super().call_soon_threadsafe(callback, *args, context=context)

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002 -- asyncio's signature
        func: Callable[[Unpack[Arguments]], object],  # noqa: ARG002
        *args: Unpack[Arguments],  # noqa: ARG002
    ) -> NoReturn:
        raise self._watch.complain(_A_THREAD)


class TrioWatch:
    """The same watch for trio, as a trio instrument.

    An instrument may not raise, so this one only remembers. It looks when trio is idle, which is just before its
    clock jumps.
    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._idle = False

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 -- trio's signature
        import trio  # noqa: PLC0415 -- only where trio runs

        if self._idle:
            self._check_posted(trio.lowlevel.current_statistics().run_sync_soon_queue_size)

    def after_io_wait(self, timeout: float) -> None:
        import trio  # noqa: PLC0415 -- only where trio runs

        # One snapshot for both questions: a thread may call run_sync_soon between two, and would never be noticed.
        statistics = trio.lowlevel.current_statistics()
        self._check_posted(statistics.run_sync_soon_queue_size)
        self._idle = not (timeout or statistics.tasks_runnable or statistics.run_sync_soon_queue_size)
        # A thread that was quick has reported back, and still has its place in the limiter.
        if self._idle or statistics.run_sync_soon_queue_size:
            self._check_threads()
        if self._idle:
            self._check_sockets(statistics.io_statistics)

    def before_task_step(self, task: object) -> None:  # noqa: ARG002 -- trio's signature
        self._idle = False

    def _check_posted(self, posted: int) -> None:
        # No task ran since the loop was idle, so a thread must have called run_sync_soon.
        if self._idle and posted:
            self.watch.complain(_A_THREAD)

    def _check_threads(self) -> None:
        import trio  # noqa: PLC0415 -- only where trio runs

        if trio.to_thread.current_default_thread_limiter().borrowed_tokens:
            self.watch.complain(_A_THREAD)

    def _check_sockets(self, io_statistics: object) -> None:
        # Each platform has its own counters. One wait is always there: trio's wake-up socket.
        waiting = [getattr(io_statistics, name, 0) for name in ("tasks_waiting_read", "tasks_waiting_write")]
        if sum(waiting) > 1:
            self.watch.complain(_A_SOCKET)


def virtual_backend(backend: str | tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Make an anyio backend with virtual time, for an ``anyio_backend`` fixture.

    ::

        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request: pytest.FixtureRequest) -> object:
            return virtual_backend(request.param)

    Time starts at 0, stands still while any task can run, and then moves straight to the next deadline. Call it anew
    for each test: on trio the clock is in the options.

    Args:
        backend: ``"asyncio"`` or ``"trio"``, or such a name with anyio's options for it.

    Returns:
        The name and the options for anyio. Your options are kept, except a clock or a loop.

    Raises:
        ValueError: the backend can't have virtual time. uvloop can't, because its clock can't be replaced.
    """
    name, options = _name_and_options(backend)
    if options.get("use_uvloop"):
        raise ValueError("use_uvloop must be False for virtual time, because uvloop keeps its own time; got True")
    if name == "asyncio":
        return name, {**options, "loop_factory": _LoopFactory()}
    if name == "trio":
        return name, {**options, **_trio_options(options)}
    raise wrong(ValueError, "backend", "'asyncio' or 'trio', which can have virtual time", name)


def _name_and_options(backend: object) -> tuple[str, dict[str, Any]]:
    if isinstance(backend, str):
        return backend, {}
    pair = members_of(backend)
    if len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], dict):
        wanted = "'asyncio' or 'trio', or such a name with anyio's options for it"
        raise wrong(TypeError, "backend", wanted, backend)
    return pair[0], cast("dict[str, Any]", pair[1])


class _LoopFactory:
    """Makes the loop for anyio, and keeps the watch for watch_of()."""

    def __init__(self) -> None:
        self.watch = Watch()

    def __call__(self) -> VirtualTimeLoop:
        return VirtualTimeLoop(self.watch)


def _trio_options(options: dict[str, Any]) -> dict[str, Any]:
    from trio.testing import MockClock  # noqa: PLC0415 -- only where trio runs

    watch = Watch()
    instruments = [*options.get("instruments", ()), TrioWatch(watch)]
    return {"clock": MockClock(autojump_threshold=0), "instruments": instruments}


def watch_of(backend: Any) -> Watch | None:
    """Return the watch of a backend that virtual_backend() made, or None for any other."""
    options: dict[str, Any] = {} if backend is None or isinstance(backend, str) else backend[1]
    candidates = [options.get("loop_factory"), *options.get("instruments", ())]
    for candidate in candidates:
        if isinstance(candidate, (_LoopFactory, TrioWatch)):
            return candidate.watch
    return None


async def is_virtual() -> bool:
    """Whether the time of the running event loop is virtual."""
    try:
        return isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
    except RuntimeError:
        import trio  # noqa: PLC0415 -- only where trio runs

        return isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)


async def wait_all_tasks_blocked() -> None:
    """Block until every other task waits for something, without letting virtual time pass.

    As :func:`anyio.wait_all_tasks_blocked`, which on asyncio looks every 0.1 s and so would move a virtual clock.
    Under virtual time this one is exact: it returns when nothing but a timer is left to happen.

    Checkpoint: always. Cancellation leaves nothing behind.
    """
    try:
        loop: object = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if isinstance(loop, VirtualTimeLoop):
        await loop.wait_idle()
    else:
        await anyio.wait_all_tasks_blocked()
