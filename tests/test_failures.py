"""Exceptions out of a stream: in which form they are raised, and which of them are failures at all."""

from __future__ import annotations

import sys

import anyio
import pytest
from anyio import BrokenResourceError, create_memory_object_stream

from sse_trio import open_event_channel
from sse_trio._channels.ends import state_of
from sse_trio._failures import append_context, cancellation_behind, collapse, is_failure, joined, without_own

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

pytestmark = pytest.mark.anyio

FIRST, SECOND = ValueError("first"), LookupError("second")


async def cancelled() -> BaseException:
    """A cancellation, as the event loop raises it."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep(1)
        except BaseException as exc:
            result = exc
            raise
    return result


def own_error() -> tuple[BrokenResourceError, object]:
    """An error of a channel's own, and the channel's state."""
    send_channel, receive_channel = open_event_channel()
    receive_channel.close()
    with send_channel, pytest.raises(BrokenResourceError) as info:
        send_channel.send_nowait("event")
    return info.value, state_of(send_channel)


async def test_single_exception_comes_out_bare() -> None:
    """Only the nursery's own layer is taken off, and only if there is one exception in it."""
    nested = ExceptionGroup("a producer's", [FIRST])
    both = ExceptionGroup("nursery", [FIRST, SECOND])
    assert collapse(FIRST) is FIRST
    assert collapse(ExceptionGroup("nursery", [FIRST])) is FIRST
    assert collapse(ExceptionGroup("nursery", [nested])) is nested
    assert collapse(both) is both


async def test_cancellation_beside_a_failure() -> None:
    """A cancellation counts only if there is no other exception."""
    cancellation = await cancelled()
    assert collapse(BaseExceptionGroup("nursery", [cancellation, FIRST])) is FIRST
    assert collapse(BaseExceptionGroup("nursery", [cancellation])) is cancellation
    assert collapse(cancellation) is cancellation
    rest = collapse(BaseExceptionGroup("nursery", [cancellation, FIRST, SECOND]))
    assert isinstance(rest, ExceptionGroup)
    assert rest.exceptions == (FIRST, SECOND)
    exit_ = KeyboardInterrupt()
    assert collapse(BaseExceptionGroup("nursery", [cancellation, exit_])) is exit_


async def test_joined_errors() -> None:
    """The only error is raised, or a group of several; a cancellation counts only if there is no other exception."""
    cancellation = await cancelled()
    assert joined(None, None) is None
    assert joined(None, FIRST) is FIRST
    assert joined(cancellation, None) is cancellation
    assert joined(cancellation, FIRST, None) is FIRST
    both = joined(FIRST, None, SECOND)
    assert isinstance(both, ExceptionGroup)
    assert both.exceptions == (FIRST, SECOND)


async def test_what_is_a_failure() -> None:
    """An exception is a failure; a cancellation and a request to exit are none, unless an exception comes with them."""
    cancellation = await cancelled()
    assert is_failure(FIRST)
    assert is_failure(ExceptionGroup("two", [FIRST, SECOND]))
    assert is_failure(BaseExceptionGroup("both", [KeyboardInterrupt(), FIRST]))
    assert not is_failure(cancellation)
    assert not is_failure(KeyboardInterrupt())
    assert not is_failure(BaseExceptionGroup("both", [cancellation, KeyboardInterrupt()]))


async def test_errors_of_sends_on_this_channel() -> None:
    """An error of a send on the stream's own channel is none, wherever it is in a group; of another one it is."""
    own, state = own_error()
    other, _ = own_error()
    assert without_own(own, state) is None
    assert without_own(other, state) is other
    assert without_own(FIRST, state) is FIRST
    others = ExceptionGroup("two", [other, ExceptionGroup("inner", [FIRST])])
    assert without_own(others, state) is others
    assert without_own(ExceptionGroup("two", [own, own]), state) is None
    rest = without_own(ExceptionGroup("two", [own, ExceptionGroup("inner", [own, FIRST])]), state)
    assert isinstance(rest, ExceptionGroup)
    assert isinstance(rest.exceptions[0], ExceptionGroup)
    assert rest.exceptions[0].exceptions == (FIRST,)


async def test_broken_resources_of_others() -> None:
    """A BrokenResourceError of something else is a failure like any other."""
    send_stream, receive_stream = create_memory_object_stream[str]()
    receive_stream.close()
    _, state = own_error()
    with send_stream, pytest.raises(BrokenResourceError) as info:
        send_stream.send_nowait("item")
    assert without_own(info.value, state) is info.value


def chained(exc: BaseException, context: BaseException | None) -> BaseException:
    exc.__context__ = context
    return exc


async def test_cancellation_behind_errors() -> None:
    """The cancellation in whose handling an error was raised is found, in groups as well, and behind other errors."""
    cancellation = await cancelled()
    replaced = chained(BrokenResourceError(), chained(ValueError(), cancellation))
    assert cancellation_behind(replaced) is cancellation
    assert cancellation_behind(BaseExceptionGroup("", [BrokenResourceError(), replaced])) is cancellation
    assert cancellation_behind(BaseExceptionGroup("", [BrokenResourceError()])) is None
    assert cancellation_behind(chained(BrokenResourceError(), ValueError())) is None


def test_appended_context() -> None:
    """An earlier exception is shown before all others of a chain, once, and no chain becomes a circle."""
    last, middle, first = ValueError("last"), ValueError("middle"), ValueError("first")
    append_context(last, middle)
    append_context(last, first)
    append_context(last, first)
    assert (last.__context__, middle.__context__, first.__context__) == (middle, first, None)
    append_context(first, None)
    append_context(last, last)
    assert first.__context__ is None
