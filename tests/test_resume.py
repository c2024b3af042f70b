# Who is cut off from a hub's stream before the first event comes back with a place as well.

from __future__ import annotations

import pytest

from sse_trio import EventSourceResponse, ServerSentEvent, open_hub
from sse_trio._wire.decoder import EventDecoder
from sse_trio.testing import open_test_stream, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("replay", [None, 3])
@pytest.mark.parametrize("before", [0, 1])
async def test_a_stream_begins_with_its_place(replay, before):
    """A client that was cut off before its first event gets, when it comes back, what was published meanwhile."""
    async with open_hub() as hub:
        for _ in range(before):
            await hub.publish("other", "somebody else's")
        async with open_test_stream(EventSourceResponse(hub.subscribe("a", replay=replay))) as stream:
            await wait_all_tasks_blocked()
            decoder = EventDecoder()
            assert decoder.feed(stream.body) == []
        await hub.publish("a", "missed")
        async with open_test_stream(EventSourceResponse(hub.subscribe("a", after=decoder.last_event_id))) as stream:
            event = await stream.receive()
            assert (event.event, event.data) == ("message", "missed")
        assert hub.statistics().delivered == 1


async def test_a_subscription_by_itself_tells_no_place():
    """receive() from a subscription returns events only, no positions."""
    async with open_hub() as hub, hub.subscribe("a") as subscription:
        await hub.publish("a", "first")
        assert (await subscription.receive()).data == "first"


async def test_the_place_is_no_event_to_a_filter():
    """A filter sees what was published, and nothing else."""
    seen = []

    def note(topic: str, event: ServerSentEvent) -> bool:
        seen.append((topic, event.data))
        return True

    async with open_hub() as hub, open_test_stream(EventSourceResponse(hub.subscribe("a", filter=note))) as stream:
        await hub.publish("a", "first")
        assert (await stream.receive()).data == "first"
    assert seen == [("a", "first")]
