# The table of endings: every way in which a stream can end, and what must be true then, for each kind of source.
#
# How to read a row, Ending(name, script, act, messages, reason, options, ...):
#
#   script    what the producer does, step by step; the same for each kind of source:
#               "1"            sends an event with the data "1"
#               1              sleeps for 1 unit (a second of virtual time)
#               ...            waits for ever
#               ["closing"]    waits until the stream is about to end (grace); sources without our channel can't
#               BOOM           raises this exception
#             TICKS and FLOOD are scripts that send events until the end.
#   act       what happens to the stream meanwhile: a function of (cell, stream). `stream` is the client and the server
#             (a TestStream); `cell` is one run of one row with one source on one loop: its clock, group and log.
#   messages  what the client got: "head", the data of each event ("p" for one from outside), "bye" for the farewell,
#             "final" for the last chunk of the body. "head 1" without "final" is a body that was cut off.
#   reason    the CloseReason that `on_close` gets.
#   options   of the response; `bridge` (PLAIN: a server that can do nothing beyond ASGI) is the test stream's,
#             `max_buffer_size` is the channel's.
#   raises    what the response raises: nothing, a class of exception, or the exceptions of a group.
#   own_messages  in place of `messages` for sources that have our channel, and so can wait for ["closing"].
#   aborted   whether the server drops the connection.

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from sse_trio import CloseReason, SendTimeoutError, ServerSentEvent

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

pytestmark = pytest.mark.anyio

Act = Callable[[Any, Any], Awaitable[None]]  # (cell, stream)


# --- acts: what happens to a stream


async def disconnect(cell: Any, stream: Any) -> None:
    await stream.receive()
    await cell.settle()
    stream.disconnect()


async def disconnect_while_blocked(cell: Any, stream: Any) -> None:
    await stream.receive()
    stream.stall()
    await cell.sleep(10)
    assert stream.is_sending
    stream.disconnect()


async def shut_down(cell: Any, stream: Any) -> None:
    await stream.receive()
    stream.request_shutdown()


async def shut_down_by_group(cell: Any, stream: Any) -> None:
    await stream.receive()
    cell.group.request_shutdown()


async def stall_at_once(cell: Any, stream: Any) -> None:
    stream.stall()


async def stall_at_once_shielded(cell: Any, stream: Any) -> None:
    stream.stall(shield=True)


async def stall(cell: Any, stream: Any) -> None:
    await stream.receive()
    stream.stall()


async def stall_shielded(cell: Any, stream: Any) -> None:
    await stream.receive()
    stream.stall(shield=True)


async def kick(cell: Any, stream: Any) -> None:
    await stream.receive()
    assert await cell.group.kick(lambda labels: labels["user"] == "1") == 1


async def cancel(cell: Any, stream: Any) -> None:
    await stream.receive()
    await cell.settle()
    stream.cancel()


async def shut_down_stalled(cell: Any, stream: Any) -> None:
    await stall_shielded(cell, stream)
    await cell.sleep(2)
    stream.request_shutdown()


async def shut_down_stalled_by_group(cell: Any, stream: Any) -> None:
    await stall_shielded(cell, stream)
    await cell.sleep(2)
    cell.group.request_shutdown()


async def cancel_stalled(cell: Any, stream: Any) -> None:
    await stall_shielded(cell, stream)
    await cell.sleep(2)
    stream.cancel()


async def cancel_slow(cell: Any, stream: Any) -> None:
    await stall(cell, stream)
    await cell.sleep(4)
    assert cell.log
    assert all(line.endswith("cleaned up") for line in cell.log), "only the last writes are left to do"
    stream.cancel()
    await cell.sleep(0.5)
    stream.resume()


async def release_failures(cell: Any, stream: Any) -> None:
    await stream.receive()
    await cell.settle()
    cell.go.set()


async def nothing(cell: Any, stream: Any) -> None:
    pass


# --- the table


class Failed(Exception):  # noqa: N818 -- a name that reads well in the table
    """What a producer raises."""


BOOM, FIRST, SECOND = Failed("boom"), Failed("first"), Failed("second")


@dataclass(frozen=True)
class Ending:
    """One row of the table; the legend is at the top of this file."""

    name: str
    script: Sequence[Any]
    act: Act
    messages: str
    reason: CloseReason
    options: dict[str, Any] = field(default_factory=dict)
    raises: type[BaseException] | Sequence[Exception] = ()
    own_messages: str | None = None
    aborted: bool = False


TICKS = ("1", 1, "2", ...)
FLOOD = ("1", 1, *"23456789", ...)
SHORT_TIMEOUT = {"send_timeout": 5}
PLAIN = {"bridge": False}
R = CloseReason

ENDINGS = (
    Ending("completes", ("1", 1, "2"), nothing, "head 1 2 final", R.COMPLETED),
    Ending("completes without an event", (1,), nothing, "head final", R.COMPLETED),
    Ending("disconnect while waiting", ("1", ...), disconnect, "head 1", R.DISCONNECTED),
    Ending(
        "disconnect while blocked in send", FLOOD, disconnect_while_blocked, "head 1", R.DISCONNECTED,
        {"max_buffer_size": 1},
    ),
    Ending(
        "disconnect with grace", ("1", ["closing"], "late"), disconnect, "head 1", R.DISCONNECTED, {"grace": 5},
    ),
    Ending("shutdown", ("1", ...), shut_down, "head 1 final", R.SHUTDOWN),
    Ending("shutdown by the group", ("1", ...), shut_down_by_group, "head 1 final", R.SHUTDOWN, PLAIN),
    Ending(
        "shutdown with grace and farewell", ("1", ["closing"], "last"), shut_down, "head 1 bye final", R.SHUTDOWN,
        {"grace": 5, "farewell": ServerSentEvent("bye")}, own_messages="head 1 last bye final",
    ),
    Ending("send timeout on head", TICKS, stall_at_once, "", R.SEND_TIMEOUT, SHORT_TIMEOUT, aborted=True),
    Ending("send timeout on body", TICKS, stall, "head 1", R.SEND_TIMEOUT, SHORT_TIMEOUT, aborted=True),
    Ending(
        "send timeout on body, shielded", TICKS, stall_shielded, "head 1", R.SEND_TIMEOUT, SHORT_TIMEOUT, aborted=True
    ),
    Ending(
        "send timeout on ping", ("1", ...), stall, "head 1", R.SEND_TIMEOUT, SHORT_TIMEOUT | {"ping": 2}, aborted=True
    ),
    Ending("send timeout on final frame", ("1", 1), stall, "head 1", R.SEND_TIMEOUT, SHORT_TIMEOUT, aborted=True),
    Ending(
        "send timeout on head, shielded, no bridge", TICKS, stall_at_once_shielded, "", R.SEND_TIMEOUT,
        SHORT_TIMEOUT | PLAIN, SendTimeoutError,
    ),
    Ending(
        "send timeout on body, shielded, no bridge", TICKS, stall_shielded, "head 1", R.SEND_TIMEOUT,
        SHORT_TIMEOUT | PLAIN, SendTimeoutError,
    ),
    Ending(
        "send timeout on ping, shielded, no bridge", ("1", ...), stall_shielded, "head 1", R.SEND_TIMEOUT,
        SHORT_TIMEOUT | PLAIN | {"ping": 2}, SendTimeoutError,
    ),
    Ending(
        "send timeout on final frame, shielded, no bridge", ("1", 1), stall_shielded, "head 1", R.SEND_TIMEOUT,
        SHORT_TIMEOUT | PLAIN, SendTimeoutError,
    ),
    Ending("lifetime", ("1", ...), nothing, "head 1 final", R.LIFETIME, {"max_lifetime": 10}),
    Ending("kick", ("1", ...), kick, "head 1 final", R.KICKED, {"labels": {"user": "1"}}),
    Ending("outer cancel", ("1", ...), cancel, "head 1 final", R.CANCELLED),
    Ending(
        "outer cancel with farewell", ("1", ...), cancel, "head 1 bye final", R.CANCELLED,
        {"farewell": ServerSentEvent("bye")},
    ),
    Ending("producer fails before commit", (BOOM,), nothing, "", R.FAILED, {"commit_within": 3}, Failed),
    Ending("producer fails after events", ("1", 1, "2", BOOM), nothing, "head 1 2", R.FAILED, raises=Failed),
    Ending(
        "two fail at once", ("1", ...), release_failures, "head 1", R.FAILED, {"failures": (FIRST, SECOND)},
        raises=(FIRST, SECOND),
    ),
)  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.name)
async def test_ending(ending: Ending, cell: Any, show: Callable[[Any], str]) -> None:
    """A stream ends with the right messages and one reason: first clean-up, then on_close, then the return."""
    await check_ending(ending, cell, show)


STALLED = (
    Ending("shutdown", TICKS, shut_down_stalled, "head 1", R.SHUTDOWN, aborted=True),
    Ending("outer cancel", TICKS, cancel_stalled, "head 1", R.CANCELLED, aborted=True),
    Ending("shutdown, no bridge", TICKS, shut_down_stalled_by_group, "head 1", R.SHUTDOWN, PLAIN, SendTimeoutError),
    Ending("outer cancel, no bridge", TICKS, cancel_stalled, "head 1", R.CANCELLED, PLAIN),
    Ending("outer cancel of the last writes", ("1", 1, "2"), cancel_slow, "head 1 2 final", R.CANCELLED),
    Ending("outer cancel after a failure", ("1", 1, "2", BOOM), cancel_slow, "head 1 2", R.FAILED, raises=Failed),
    Ending("producer fails", ("1", 1, "2", BOOM), stall_shielded, "head 1", R.FAILED, raises=Failed, aborted=True),
)


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("ending", STALLED, ids=lambda ending: ending.name)
async def test_ending_while_stalled(ending: Ending, cell: Any, show: Callable[[Any], str]) -> None:
    """A client that has stopped reading doesn't delay any ending, even if the server shields its write (C11)."""
    await check_ending(ending, cell, show)
    assert cell.elapsed < 60


async def check_ending(ending: Ending, cell: Any, show: Callable[[Any], str]) -> None:
    error = await run(cell, ending, ending.act)
    check_error(error, ending.raises)
    has_own_channel = hasattr(cell.source, "channel")
    expected = ending.own_messages if ending.own_messages and has_own_channel else ending.messages
    assert show(cell.stream.messages) == expected
    assert cell.stream.close_reason is ending.reason
    assert cell.stream.is_aborted is ending.aborted
    *cleaned_up, on_close, returned = cell.log
    assert sorted(cleaned_up) == (["a cleaned up", "b cleaned up"] if len(cleaned_up) == 2 else ["a cleaned up"])
    assert (on_close, returned) == (f"on_close {ending.reason.value}", "returned")


async def run(cell: Any, ending: Ending, act: Act) -> Exception | None:
    try:
        await cell.run(ending.script, act, **ending.options)
    except Exception as exc:
        return exc
    return None


def check_error(error: Exception | None, raises: Any) -> None:
    """A single failure is raised as it is, several are raised as a group (C9)."""
    if not raises:
        assert error is None
    elif isinstance(raises, tuple):
        assert isinstance(error, ExceptionGroup)
        assert sorted(map(str, error.exceptions)) == sorted(map(str, raises))
    else:
        assert type(error) is raises


PUBLISHED = (
    Ending("disconnect", ("1", ...), disconnect, "head 1 p p", R.DISCONNECTED),
    Ending(
        "disconnect while blocked in send", ("1", ...), disconnect_while_blocked, "head 1 p p", R.DISCONNECTED,
        {"max_buffer_size": 1},
    ),
    Ending("shutdown", ("1", ...), shut_down, "head 1 p p final", R.SHUTDOWN),
    Ending("send timeout", ("1", ...), stall, "head 1 p p", R.SEND_TIMEOUT, SHORT_TIMEOUT, aborted=True),
    Ending("lifetime", ("1", ...), nothing, "head 1 p p final", R.LIFETIME, {"max_lifetime": 2.8}),
    Ending("outer cancel", ("1", ...), cancel, "head 1 p p final", R.CANCELLED),
    Ending("producer fails", ("1", 2.5, BOOM), nothing, "head 1 p p", R.FAILED, raises=Failed),
)  # fmt: skip


@pytest.mark.parametrize("ending", PUBLISHED, ids=lambda ending: ending.name)
async def test_outside_publisher(ending: Ending, cell: Any, publisher: Any, show: Callable[[Any], str]) -> None:
    """A task that sends from outside the response gets an error once the response has ended, and never blocks (C8)."""

    async def act(cell: Any, stream: Any) -> None:
        await stream.receive()
        async with anyio.create_task_group() as tg:
            tg.start_soon(publisher, cell, 2)
            await cell.sleep(2.2)
            await ending.act(cell, stream)

    error = await run(cell, ending, act)
    check_error(error, ending.raises)
    # On a real clock the number of its events before the end is not known.
    messages, expected = show(cell.stream.messages), ending.messages
    assert messages == expected if cell.unit == 1 else re.sub("( p)+", " p p", messages) == expected
    assert cell.stream.close_reason is ending.reason
    assert "publisher refused" in cell.log
