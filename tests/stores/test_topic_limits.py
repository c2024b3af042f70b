# Limits by pattern, without a store: which one counts for a topic, ages, and how old events are found.

from __future__ import annotations

import pytest

from sse_trio.stores import EventId, Retention, StoredEvent
from sse_trio.stores._memory.aged import _COMPACT_FROM, AgedLogs
from sse_trio.stores._memory.log import Entry
from sse_trio.stores._sweeps import SWEPT_AT_ONCE, Step, Sweeps, look_at
from sse_trio.stores._topic_limits import TopicLimits

NONE = Retention()


def few(count, age=None):
    return Retention(max_events=count, max_age=age)


def test_the_longest_pattern_counts():
    """A topic has the limits of its own name, else of its longest prefix, else of "*"; they are not merged."""
    limits = TopicLimits({"*": few(1), "a/*": few(2, 5), "a/b/*": few(3), "a/b": few(4), "a/b/c": NONE}, NONE)
    of = {topic: limits.of(topic) for topic in ("x", "a", "ab", "a/x", "a/b", "a/bc", "a/b/x", "a/b/c", "a/b/c/d")}
    assert [of[topic].max_events for topic in ("x", "a", "ab")] == [1, 1, 1]
    assert [of[topic].max_events for topic in ("a/x", "a/bc")] == [2, 2]
    assert [of[topic].max_events for topic in ("a/b/x", "a/b/c/d")] == [3, 3]
    assert (of["a/b"], of["a/b/c"]) == (few(4), NONE)
    assert TopicLimits({"a/*": few(1)}, NONE).of("b") == TopicLimits({}, NONE).of("b") == NONE


def test_one_age_for_all_is_the_hubs():
    """An age that all topics have is one of the hub, where it costs nothing; others are ages of their own."""
    for per_topic in (Retention(max_age=5), {"*": Retention(max_age=5)}):
        limits = TopicLimits(per_topic, Retention(max_age=9))
        assert (limits.hub_age, limits.ages, limits.of("a"), limits.span) == (5, (), NONE, (5, 5))
    limits = TopicLimits({"*": few(1, 5), "a/*": few(2, 1), "b/*": few(3, 9), "c/*": few(4, 20)}, Retention(max_age=9))
    assert (limits.hub_age, limits.ages, limits.span) == (9, (1, 5), (1, 9))
    assert limits.of("b/1") == few(3), "the hub takes its events at the same age"
    assert TopicLimits({"a": few(1)}, NONE).span == (None, None)


@pytest.mark.parametrize(
    ("per_topic", "error", "message"),
    [
        ({"a*": NONE}, ValueError, "a pattern must be a topic"),
        ({"": NONE}, ValueError, "a topic to publish to must be"),
        ({5: NONE}, TypeError, "a topic must be a str"),
        ({"a": 5}, TypeError, r"per_topic\['a'\] must be a Retention"),
        ({f"{n}": NONE for n in range(1001)}, ValueError, "per_topic must be 1000 patterns at most; got 1001"),
        ([("a", NONE)], TypeError, "per_topic must be a Retention, or Retentions by pattern"),
    ],
)
def test_what_are_no_limits(per_topic, error, message):
    """Anything but a Retention, or Retentions by pattern, is refused in a message that says what to write."""
    with pytest.raises(error, match=message):
        TopicLimits(per_topic, NONE)


def test_old_events_are_found_in_steps():
    """A step passes over what stays, stops at the first event that is young, and the next one goes on after it."""
    events = [(n, "ab"[n % 2], 10 * n, float(n)) for n in range(3, 9)]
    step = look_at(events, 2, lambda _sequence, stamp: stamp < 7, lambda topic: topic == "a")
    assert step == Step([(4, "a", 40), (6, "a", 60)], 6, 4)
    assert look_at([], 6, lambda *_: True, lambda _: True) == Step([], 6, 0)


def test_marks_are_of_one_history():
    """A sweep goes on where it was, as long as there may be more at once, and begins anew in another history."""
    sweeps = Sweeps(TopicLimits({"a": few(1, 5), "b": few(1, 50)}, NONE))
    assert sweeps.marks("one") == {5: 0, 50: 0}
    assert sweeps.note({5: Step([], SWEPT_AT_ONCE, SWEPT_AT_ONCE), 50: Step([], 7, 7)})
    assert not sweeps.note({50: Step([], 9, 2)})
    assert sweeps.marks("one") == {5: SWEPT_AT_ONCE, 50: 9}
    assert sweeps.marks("two") == {5: 0, 50: 0}


def entry(sequence, topic):
    return Entry(sequence, float(sequence), StoredEvent(EventId("e", sequence), topic, b""))


def test_logs_of_ages_stay_small():
    """Entries that are gone for another reason don't stay in memory until they would be old."""
    aged = AgedLogs(TopicLimits({"a": few(1, 1e6), "b": few(1, 10)}, NONE))
    for n in range(5 * _COMPACT_FROM):
        aged.add(entry(n, "a"))
        aged.add(entry(n, "other"))
        aged.compact(lambda one, newest=n: one.sequence == newest)
    assert len(aged._logs[1e6]) <= _COMPACT_FROM + 2
    aged.add(entry(1, "b"))
    assert [one.event.topic for one in aged.take_old(12.0)] == ["b"]
