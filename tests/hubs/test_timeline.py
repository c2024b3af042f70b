# The timeline: places grow for as long as a hub lives, also when history is lost.

from __future__ import annotations

from sse_trio._hubs.timeline import Timeline
from sse_trio.stores._protocol import EventId


def test_a_place_is_the_sequence_until_history_is_lost():
    """In the history that a hub begins with, an event's place is its sequence."""
    timeline = Timeline(EventId("e", 7))
    assert timeline.began == timeline.place_of(EventId("e", 7)) == 7
    assert timeline.place_of(EventId("e", 9)) == 9
    assert timeline.is_known(EventId("e", 1))
    assert not timeline.is_known(EventId("f", 1))


def test_what_follows_a_loss_is_newer_than_all_before():
    """A new history begins after every place of the old one, also that of one who had read ahead of the hub."""
    timeline = Timeline(EventId("e", 7))
    ahead = timeline.reach(EventId("e", 100))
    place = timeline.restart(EventId("f", 3))
    assert place == timeline.began == timeline.place_of(EventId("f", 3)) > ahead
    assert timeline.place_of(EventId("f", 4)) == place + 1
    assert timeline.is_known(EventId("f", 4))
    assert not timeline.is_known(EventId("e", 100))
    assert timeline.restart(EventId("f", 50)) > place
