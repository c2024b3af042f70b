# TopicFilter and check_topic: what can be published to, and what a subscriber can ask for.

from __future__ import annotations

import pytest

from sse_trio._topics import TopicFilter, check_topic


@pytest.mark.parametrize("topic", ["a", "a/b", "/", "a b", "ä", "a/", "0", "\n"])
def test_a_topic_is_any_text(topic):
    """Whatever UTF-8 can carry is a topic, and a filter for it matches it and nothing else."""
    assert check_topic(topic) == topic
    assert TopicFilter(topic).matches(topic)
    assert not TopicFilter(topic).matches(topic + "x")


@pytest.mark.parametrize("topic", ["", "*", "a/*", "a*b", "\ud800"])
def test_what_is_no_topic_is_refused(topic):
    """Nothing is published to nowhere, to a pattern, or to what can't be encoded."""
    with pytest.raises(ValueError, match=r"topic"):
        check_topic(topic)


@pytest.mark.parametrize("call", [check_topic, TopicFilter])
def test_a_topic_is_text(call):
    """Bytes are no topic, nor is None."""
    for wrong in (b"a", None, 1):
        with pytest.raises(TypeError, match="must be a str"):
            call(wrong)


@pytest.mark.parametrize(
    ("patterns", "matched", "others"),
    [
        (["a/*"], ["a/b", "a/b/c", "a/"], ["a", "ab", "b/a/b"]),
        (["*"], ["a", "a/b"], []),
        (["a", "b/*"], ["a", "b/c"], ["b", "a/b", "c"]),
        (["a/b/*", "a/*", "a/c"], ["a/x", "a/c", "a/b/c"], ["b"]),
    ],
)
def test_a_filter_matches_what_is_below_its_prefixes(patterns, matched, others):
    """`prefix/*` is every topic below the prefix at any depth, and not the prefix itself."""
    topics = TopicFilter(*patterns)
    assert all(topics.matches(topic) for topic in matched)
    assert not any(topics.matches(topic) for topic in others)


@pytest.mark.parametrize("patterns", [["a*"], ["a/*/b"], ["*/a"], ["**"], ["a/**"], [""], [], ["\ud800/*"]])
def test_a_star_is_the_last_level(patterns):
    """A star anywhere else is an error that says where it may be, and no pattern selects nothing."""
    with pytest.raises(ValueError, match=r"topic|pattern"):
        TopicFilter(*patterns)


def test_a_filter_is_kept_in_its_shortest_form():
    """What a prefix covers anyway isn't kept; equal selections are equal."""
    topics = TopicFilter("a/*", "a/b/*", "a/c", "d", "d")
    assert topics.prefixes == ("a/",)
    assert topics.exact == {"d"}
    assert topics == TopicFilter("d", "a/*")
    assert hash(topics) == hash(TopicFilter("d", "a/*"))
    assert topics != TopicFilter("d")
    assert topics != "d"
    assert repr(topics) == "TopicFilter('d', 'a/*')"
    assert TopicFilter("a", "*").matches_all
    assert not topics.matches_all
