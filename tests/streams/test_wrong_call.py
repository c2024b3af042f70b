"""``send()`` called as other libraries' events are written: the error shows how an event is sent."""

from __future__ import annotations

from typing import Any

import pytest

from sse_trio import EventSendChannel, EventSourceResponse
from sse_trio.testing import open_test_stream

pytestmark = pytest.mark.anyio


async def notes_of(*args: Any, **fields: Any) -> list[str]:
    """The notes of the error that a producer raises which calls ``send()`` like this."""

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("first")
        await send_channel.send(*args, **fields)

    async with open_test_stream(EventSourceResponse(produce)) as stream:
        with pytest.raises(TypeError) as info:
            await stream.wait_closed()
    return getattr(info.value, "__notes__", [])


@pytest.mark.parametrize(
    ("args", "fields"),
    [(("x",), {"event": "tick"}), ((), {"data": "x", "event": "tick"}), (("x", "tick"), {}), ((), {})],
)
async def test_fields_in_place_of_an_event(args: tuple[Any, ...], fields: dict[str, Any]) -> None:
    """Fields of an event as arguments of ``send()`` are an error whose note has the line to write."""
    (note,) = await notes_of(*args, **fields)
    assert "await send_channel.send(ServerSentEvent(data, event=..., id=...))" in note


async def test_an_event_that_is_none_has_no_note() -> None:
    """An error of ``send()`` itself, which says what to write, stays as it is."""
    assert await notes_of(object()) == []
