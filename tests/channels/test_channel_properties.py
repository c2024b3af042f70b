"""What holds for a channel whatever its users do, in whatever order: found by random interleavings."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, WouldBlock
from anyio.abc import TaskGroup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sse_trio import ServerSentEvent, open_event_channel
from sse_trio._channels.ends import state_of
from sse_trio._channels.state import ChannelState
from sse_trio.testing import wait_all_tasks_blocked

from .._volume import volume

pytestmark = [pytest.mark.anyio, pytest.mark.untraced]

relaxed = settings(
    max_examples=volume(60),
    deadline=None,
    # The fixture is the event loop, which may well be the same for all examples. A busy machine is no flaw of theirs.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Model:
    """A channel, the tasks that use it, and what became of every event."""

    def __init__(self, task_group: TaskGroup, **options: Any) -> None:
        self.send_channel, self.receive_channel = open_event_channel(**options)
        self.begun: list[str] = []
        self.accepted: set[str] = set()
        self.refused: set[str] = set()
        self.received: list[str] = []
        self._task_group = task_group
        self._sends: list[anyio.CancelScope] = []
        self._receives: list[anyio.CancelScope] = []
        self._count = 0

    # --- what a test may do, each with a number to choose by

    def send(self, number: int) -> None:
        """Start a send; every fourth of its event's sizes is large."""
        scope = anyio.CancelScope()
        self._sends.append(scope)
        self._task_group.start_soon(self._send, scope, self._new_event(number))

    def send_nowait(self, number: int) -> None:
        """Send without waiting."""
        event = self._new_event(number)
        self.begun.append(event["data"])
        try:
            self.send_channel.send_nowait(event)
        except (WouldBlock, BrokenResourceError):
            self.refused.add(event["data"])
        else:
            self.accepted.add(event["data"])

    def receive(self, _: int) -> None:
        """Start a receive."""
        scope = anyio.CancelScope()
        self._receives.append(scope)
        self._task_group.start_soon(self._receive, scope)

    def receive_nowait(self, _: int) -> None:
        """Receive without waiting."""
        try:
            self.received.append(self.receive_channel.receive_nowait().data or "")
        except (WouldBlock, EndOfStream):
            pass

    def take_batch(self, _: int) -> None:
        """Receive as a writer does."""
        batch = state_of(self.receive_channel).take_batch()
        wire = "" if batch is None else batch.body.decode()
        self.received += [line.removeprefix("data: ") for line in wire.split("\n") if line.startswith("data: ")]

    def cancel_send(self, number: int) -> None:
        """Cancel one of the sends."""
        if self._sends:
            self._sends[number % len(self._sends)].cancel()

    def cancel_receive(self, number: int) -> None:
        """Cancel one of the receives."""
        if self._receives:
            self._receives[number % len(self._receives)].cancel()

    # --- the tasks

    def _new_event(self, number: int) -> dict[str, str]:
        self._count += 1
        return {"event": str(number % 3), "data": f"{self._count:03d}" + "x" * (40 if number % 4 == 0 else 0)}

    async def _send(self, scope: anyio.CancelScope, event: dict[str, str]) -> None:
        with scope:
            self.begun.append(event["data"])
            try:
                await self.send_channel.send(event)
            except BaseException:
                self.refused.add(event["data"])
                raise
            self.accepted.add(event["data"])

    async def _receive(self, scope: anyio.CancelScope) -> None:
        with scope:
            self.received.append((await self.receive_channel.receive()).data or "")

    async def finish(self) -> None:
        """Receive all that is left, until no task of the model waits for anything."""
        for scope in self._receives:
            scope.cancel()
        await wait_all_tasks_blocked()
        while self.send_channel.statistics().current_buffer_used or self.send_channel.statistics().tasks_waiting_send:
            self.receive_nowait(0)
            await wait_all_tasks_blocked()
        self.send_channel.close()
        self.receive_channel.close()


ACTIONS = ("send", "send_nowait", "receive", "receive_nowait", "take_batch", "cancel_send", "cancel_receive", "run")
Steps = list[tuple[str, int]]
steps = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 11)), max_size=40)


async def play(steps: Steps, **options: Any) -> Model:
    """Do all the steps, the tasks running only where a step says so, and what is then left to be done."""
    with anyio.fail_after(1000):  # of virtual time: at once, if everything is blocked for ever
        async with anyio.create_task_group() as tg:
            model = Model(tg, **options)
            for action, number in steps:
                if action == "run":
                    await anyio.lowlevel.checkpoint()
                else:
                    getattr(model, action)(number)
            await model.finish()
    state = state_of(model.send_channel)
    assert (state.receivers.woken, state.senders.resuming, len(state.receivers.queue)) == (0, 0, 0)
    assert model.accepted | model.refused == set(model.begun)
    return model


LIMITS: list[dict[str, Any]] = [
    {"max_buffer_size": 0},
    {"max_buffer_size": 1},
    {"max_buffer_size": 3},
    {"max_buffer_bytes": 120},
]


@pytest.fixture
def no_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """No send is a checkpoint before it is accepted or waits, so that they are decided in the order of the calls."""
    monkeypatch.setattr(ChannelState, "begin_slice", lambda _: None)


@pytest.mark.parametrize("options", LIMITS)
@relaxed
@given(steps=steps)
async def test_each_event_is_received_once_or_refused(steps: Steps, options: dict[str, Any]) -> None:
    """An accepted event is received once, a refused one never, and no task is left over."""
    model = await play(steps, **options)
    assert sorted(model.received) == sorted(model.accepted)
    assert not model.accepted & model.refused


@pytest.mark.parametrize("options", LIMITS)
@pytest.mark.usefixtures("no_slices")
@relaxed
@given(steps=steps)
async def test_events_are_received_in_order(steps: Steps, options: dict[str, Any]) -> None:
    """Waiting sends are accepted in the order in which they started to wait."""
    model = await play(steps, **options)
    assert model.received == [data for data in model.begun if data in model.accepted]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
@pytest.mark.parametrize("options", LIMITS)
@pytest.mark.usefixtures("no_slices")
@relaxed
@given(steps=steps)
async def test_dropped_events_are_counted(steps: Steps, options: dict[str, Any], overflow: str) -> None:
    """Dropped events are counted, and the others are received once and in order."""
    model = await play(steps, overflow=overflow, **options)
    assert model.received == [data for data in model.begun if data in set(model.received)]
    assert set(model.received) <= model.accepted
    statistics = model.receive_channel.statistics()
    assert len(model.received) + statistics.events_dropped == len(model.accepted)
    assert statistics.events_received == len(model.received)


@pytest.mark.parametrize("options", LIMITS)
@pytest.mark.usefixtures("no_slices")
@relaxed
@given(steps=steps)
async def test_conflation_ends_with_the_latest(steps: Steps, options: dict[str, Any]) -> None:
    """The last accepted event of each key is the last one received with it, and the counts are right."""
    keys: dict[str, str] = {}

    def conflate(event: ServerSentEvent) -> str:
        keys[event.data or ""] = event.event or ""
        return event.event or ""

    model = await play(steps, conflate=conflate, **options)
    latest: dict[str, dict[str, str]] = defaultdict(dict)
    for kind, all_data in (("accepted", [d for d in model.begun if d in model.accepted]), ("received", model.received)):
        for data in all_data:
            latest[kind][keys[data]] = data
    assert latest["received"] == latest["accepted"]
    statistics = model.receive_channel.statistics()
    assert len(model.received) + statistics.events_conflated == len(model.accepted)
    assert statistics.current_buffer_bytes == 0


@relaxed
@given(steps=steps, size=st.integers(1, 4), max_bytes=st.integers(30, 200))
async def test_limits_hold_at_every_step(steps: Steps, size: int, max_bytes: int) -> None:
    """The channel never holds more events or bytes than its limits, except for one oversized event."""
    most: list[tuple[int, int]] = []

    class Watched(Model):
        def __getattribute__(self, name: str) -> Any:
            if name in ACTIONS or name == "begun":
                statistics = object.__getattribute__(self, "send_channel").statistics()
                most.append((statistics.current_buffer_used, statistics.current_buffer_bytes))
            return object.__getattribute__(self, name)

    async with anyio.create_task_group() as tg:
        model = Watched(tg, max_buffer_size=size, max_buffer_bytes=max_bytes, conflate=lambda event: event.event)
        for action, number in steps:
            await anyio.lowlevel.checkpoint()
            if action != "run":
                getattr(model, action)(number)
        await model.finish()
    assert all(used <= size and (held <= max_bytes or used == 1) for used, held in most)


# --- asyncio's own cancellation


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
class TestNativeCancellation:
    """``Task.cancel()`` is raised once, by the task's next await, and knows nothing of scopes."""

    @pytest.mark.parametrize("order", ["cancel first", "cancel last"])
    @pytest.mark.parametrize("side", ["send", "receive"])
    async def test_with_the_wake_up_in_one_pass(self, side: str, order: str) -> None:
        """In the pass in which its wait is over, a call returns or raises; a cancellation that it didn't raise is
        raised by the task's next await, with its message and its count."""  # noqa: D209
        send_channel, receive_channel = open_event_channel(0)
        log: list[object] = []

        async def use() -> None:
            task = asyncio.current_task()
            assert task is not None
            try:
                log.append(await (send_channel.send("event") if side == "send" else receive_channel.receive()))
                log.append(getattr(task, "cancelling", lambda: 1)())
                await asyncio.sleep(3600)
            except asyncio.CancelledError as exc:
                log.append(exc.args)
                raise

        task = asyncio.create_task(use())
        await wait_all_tasks_blocked()
        decide: Callable[[], object] = (
            receive_channel.receive_nowait if side == "send" else lambda: send_channel.send_nowait("event")
        )
        decided = True
        for step in (lambda: task.cancel("why"), decide)[:: 1 if order == "cancel first" else -1]:
            try:
                step()
            except WouldBlock:
                decided = False
        with pytest.raises(asyncio.CancelledError):
            await task
        result = None if side == "send" else ServerSentEvent("event")
        assert decided == (order == "cancel last")
        assert log == ([result, 1, ("why",)] if decided else [("why",)])
        assert send_channel.statistics().current_buffer_used == 0
        send_channel.close()
        receive_channel.close()

    async def test_timeout_of_asyncio(self) -> None:
        """asyncio.wait_for() ends a send, and its event is not received later."""
        send_channel, receive_channel = open_event_channel(0)
        with send_channel, receive_channel:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(send_channel.send("event"), 1)
            with pytest.raises(WouldBlock):
                receive_channel.receive_nowait()

    async def test_closing_in_one_pass_with_it(self) -> None:
        """A send that is refused and cancelled in the same pass raises one of the two, and loses neither."""
        send_channel, receive_channel = open_event_channel(0)
        log: list[type[BaseException]] = []

        async def use() -> None:
            try:
                await send_channel.send("event")
            except ClosedResourceError as exc:
                log.append(type(exc))
            await asyncio.sleep(3600)

        task = asyncio.create_task(use())
        await wait_all_tasks_blocked()
        send_channel.close()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == [ClosedResourceError]
        receive_channel.close()
