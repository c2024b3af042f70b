# The index of rings: which of them an event belongs to, against the plain rule of TopicFilter.

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sse_trio._hubs.ring import RingLimits
from sse_trio._hubs.ring_index import RingIndex
from sse_trio.stores._topics import TopicFilter

LIMITS = RingLimits(8, 1 << 20)

levels = st.sampled_from(["a", "b", "ab", ""])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
patterns = topics | topics.map(lambda topic: f"{topic}/*") | st.just("*")


@given(st.lists(st.tuples(patterns, st.booleans()), max_size=12), st.lists(topics, max_size=12))
def test_an_event_belongs_to_each_ring_whose_pattern_matches(steps, published):
    """After any opening and removing, each topic finds exactly the rings of the patterns that match it, each once."""
    index, open_rings = RingIndex(LIMITS), {}
    for pattern, is_removed in steps:
        (open_rings[pattern],) = index.open(TopicFilter(pattern), 0)
        assert open_rings[pattern].pattern == pattern
        if is_removed:
            index.remove(open_rings.pop(pattern))
    for topic in published:
        expected = [pattern for pattern in open_rings if TopicFilter(pattern).matches(topic)]
        assert sorted(ring.pattern for ring in index.rings_of(topic)) == sorted(expected)
    assert {ring.pattern: ring for ring in index.rings()} == open_rings


def test_two_choices_share_a_ring():
    """A topic has one ring, whatever else those who read it have chosen; the first to come decides where it begins."""
    index = RingIndex(LIMITS)
    news, mine = index.open(TopicFilter("news", "user/1"), 5)
    also_news, prefix = index.open(TopicFilter("news", "user/*"), 9)
    assert news is also_news
    assert [ring.floor for ring in (news, mine, prefix)] == [5, 5, 9]
    assert index.rings_of("user/1") == [mine, prefix]


def test_nothing_is_left_of_what_was_removed():
    """When the last ring below a level is removed, the level is forgotten, and no other."""
    index = RingIndex(LIMITS)
    (deep,) = index.open(TopicFilter("a/b/c/*"), 0)
    (above,) = index.open(TopicFilter("a/*"), 0)
    (everything,) = index.open(TopicFilter("*"), 0)
    index.remove(deep)
    assert index.rings_of("a/b/c/d") == [everything, above]
    assert not index._root.children["a"].children
    index.remove(above)
    assert not index._root.children
    index.remove(everything)
    assert index.rings_of("a/b/c/d") == []
