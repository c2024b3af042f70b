# TopicFilter and check_topic: what can be published to, and what a subscriber can ask for.

from __future__ import annotations

import sys
from random import Random
from typing import ClassVar

import pytest

from sse_trio.stores._topics import MAX_PATTERNS, MAX_TOPIC, TopicFilter, check_topic


@pytest.mark.parametrize("topic", ["a", "a/b", "/", "a b", "ä", "a/", "0", "\n"])
def test_a_topic_is_any_text(topic):
    """Any text that UTF-8 can carry is a topic, and a filter for it matches it and nothing else."""
    assert check_topic(topic) == topic
    assert TopicFilter(topic).matches(topic)
    assert not TopicFilter(topic).matches(topic + "x")


@pytest.mark.parametrize("topic", ["", "*", "a/*", "a*b", "\ud800"])
def test_a_bad_topic_is_refused(topic):
    """A topic to publish to can't be empty, have a star, or have a lone surrogate."""
    with pytest.raises(ValueError, match=r"topic"):
        check_topic(topic)


@pytest.mark.parametrize("call", [check_topic, TopicFilter])
def test_a_topic_is_text(call):
    """Bytes, None and numbers are refused as topics."""
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
    """`prefix/*` matches every topic below the prefix at any depth, but not the prefix itself."""
    topics = TopicFilter(*patterns)
    assert all(topics.matches(topic) for topic in matched)
    assert not any(topics.matches(topic) for topic in others)


@pytest.mark.parametrize("patterns", [["a*"], ["a/*/b"], ["*/a"], ["**"], ["a/**"], [""], [], ["\ud800/*"]])
def test_a_star_is_the_last_level(patterns):
    """A star anywhere but at the last level raises, and the error says where it may be; so does an empty filter."""
    with pytest.raises(ValueError, match=r"topic|pattern"):
        TopicFilter(*patterns)


def test_a_filter_is_kept_in_its_shortest_form():
    """A pattern that another one covers is dropped; filters with the same selection are equal."""
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


def test_a_topic_has_an_end():
    """A topic or a pattern has at most 1024 characters, because stores remember the names of ended topics."""
    longest = "x" * MAX_TOPIC
    assert check_topic(longest) == longest
    assert TopicFilter(longest).matches(longest)
    for call in (check_topic, TopicFilter):
        with pytest.raises(ValueError, match="a topic must have 1024 characters at most; got .* has 1025"):
            call(longest + "x")
    with pytest.raises(ValueError, match="a topic must have 1024"):
        TopicFilter("x" * MAX_TOPIC + "/*")


def test_a_filter_has_an_end():
    """A filter has at most 1000 patterns; the error says what to write instead."""
    assert len(TopicFilter(*map(str, range(MAX_PATTERNS))).exact) == MAX_PATTERNS
    with pytest.raises(ValueError, match="topics must be 1000 at most; got 1001.*common prefix"):
        TopicFilter(*map(str, range(MAX_PATTERNS + 1)))


class CountedText(str):
    """A text that counts with how many others its beginning is compared."""

    __slots__ = ()
    compared: ClassVar[list[int]] = []

    def startswith(self, *args):
        self.compared.extend(len(arg) if isinstance(arg, tuple) else 1 for arg in args)
        return super().startswith(*args)


def calls_of(function, *args):
    """Count the calls, Python's and C's alike, that a call takes."""
    calls = 0

    def profile(frame, event, arg):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.untraced
@pytest.mark.parametrize("pattern", ["a/{0}/*", "a/*", "{1}*"], ids=["apart", "the same", "nested"])
def test_many_patterns_are_not_compared_with_each_other(pattern):
    """A filter of 1000 patterns takes about ten times as long as one of 100, not a hundred times."""
    texts = [pattern.format(n, "a/" * (n % 400 + 1)) for n in range(1000)]
    assert calls_of(TopicFilter, *texts) < 20 * calls_of(TopicFilter, *texts[:100])


def test_a_topic_is_compared_with_one_prefix():
    """A topic is compared with a single prefix of a filter, however many there are."""
    CountedText.compared.clear()
    topics = TopicFilter(*[f"{n}/*" for n in range(500)], *[CountedText(f"x{n}") for n in range(500)])
    assert topics.matches(CountedText("77/a"))
    assert not topics.matches(CountedText("y/a"))
    assert sum(CountedText.compared) <= 502


def random_name(random):
    return "/".join(random.choice("ab") for _ in range(random.randint(1, 4)))


def test_what_a_filter_matches_is_what_its_patterns_say():
    """A topic matches exactly if a pattern equals it or is a prefix of it."""
    random = Random(1)
    for _ in range(2000):
        patterns = [random_name(random) + random.choice(["", "/*"]) for _ in range(random.randint(1, 6))]
        topics = TopicFilter(*patterns)
        for _ in range(10):
            name = random_name(random)
            wanted = any(
                name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in patterns
            )
            assert topics.matches(name) is wanted, (patterns, name)
