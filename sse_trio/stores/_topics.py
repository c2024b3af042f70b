# Topics and the patterns that select them. Names only: no events, no I/O.
#
# Rule 1: a topic is any non-empty text without "*" that UTF-8 can carry. "/" divides it into levels by convention.
# Rule 2: a pattern is a topic, `prefix/*` (every topic below the prefix, at any depth) or `*` (all topics). `prices/*`
#         matches `prices/eur/usd`, but neither `prices` nor `pricesheet`.
# Rule 3: patterns are parsed once, when a filter is made. The hub and the stores share the filter, so that live events
#         and events from history are selected alike.
# Rule 4: patterns may come from a client, so their number and length are bounded, and everything here but the sorting
#         is linear in them. Sorting puts a prefix right before the prefixes that it covers.

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import cast, final

from .._arguments.checks import shown, wrong

__all__ = ("MAX_PATTERNS", "MAX_TOPIC", "TopicFilter", "check_topic", "is_below")

MAX_TOPIC = 1024
"""Characters of a topic. Stores remember topics that have ended, so a topic is bounded; a URL fits."""
MAX_PATTERNS = 1000
"""Topics and patterns of one subscriber. Each of them may cost a store a search."""


def check_topic(topic: str) -> str:
    """Return ``topic`` if events can be published to it.

    Raises:
        TypeError: it is not a ``str``.
        ValueError: it is empty, has a ``*``, has more than 1024 characters, or has a lone surrogate, which UTF-8
            can't carry.
    """
    _check_text(topic)
    if not topic or "*" in topic:
        raise wrong(ValueError, "a topic to publish to", "a str that is not empty and has no *", topic)
    try:
        topic.encode()
    except UnicodeEncodeError:
        raise wrong(ValueError, "a topic", "a str without lone surrogates", topic) from None
    return topic


def _check_text(topic: str) -> None:
    if not isinstance(cast("object", topic), str):
        raise wrong(TypeError, "a topic", "a str", topic)
    if len(topic) > MAX_TOPIC:
        msg = f"a topic must have {MAX_TOPIC} characters at most; got {shown(topic)}, which has {len(topic)}"
        raise ValueError(msg)


@final
class TopicFilter:
    """The topics that a subscriber selects: exact topics, and prefixes that end in ``*``.

    Args:
        patterns: 1 to 1000 topics, ``prefix/*`` or ``*``. Order and repetition don't matter.

    Raises:
        TypeError: a pattern is not a ``str``.
        ValueError: no pattern or too many, an illegal topic, or a ``*`` that isn't the last level of its pattern.
    """

    __slots__ = ("exact", "prefixes")

    exact: frozenset[str]
    """The topics named in full, without those that a prefix covers."""
    prefixes: tuple[str, ...]
    """The prefixes without their ``*``; the empty one selects every topic."""

    def __init__(self, *patterns: str) -> None:
        if not patterns:
            raise ValueError('topics must be one or more; got none; write "*" for all topics')
        if len(patterns) > MAX_PATTERNS:
            msg = (
                f"topics must be {MAX_PATTERNS} at most; got {len(patterns)}; write a common prefix, such as 'prices/*'"
            )
            raise ValueError(msg)
        for pattern in patterns:
            _check_text(pattern)
        self.prefixes = _widest({_prefix(pattern) for pattern in patterns if "*" in pattern})
        exact = {check_topic(pattern) for pattern in patterns if "*" not in pattern}
        self.exact = frozenset(topic for topic in exact if not is_below(topic, self.prefixes))

    def matches(self, topic: str) -> bool:
        """Whether this filter selects ``topic``."""
        return topic in self.exact or is_below(topic, self.prefixes)

    @property
    def matches_all(self) -> bool:
        """Whether this filter selects every topic."""
        return self.prefixes == ("",)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns, sorted, without those that another covers."""
        return (*sorted(self.exact), *[f"{prefix}*" for prefix in self.prefixes])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TopicFilter):
            return NotImplemented
        return self.exact == other.exact and self.prefixes == other.prefixes

    def __hash__(self) -> int:
        return hash((self.exact, self.prefixes))

    def __repr__(self) -> str:
        return f"TopicFilter({', '.join(map(repr, self.patterns))})"


def is_below(topic: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a topic begins with one of the prefixes of a filter."""
    before = bisect_right(prefixes, topic)  # no prefix covers another, so only this one can cover the topic
    return before > 0 and topic.startswith(prefixes[before - 1])


def _widest(prefixes: Iterable[str]) -> tuple[str, ...]:
    widest: list[str] = []
    for prefix in sorted(prefixes):
        if not widest or not prefix.startswith(widest[-1]):
            widest.append(prefix)
    return tuple(widest)


def _prefix(pattern: str) -> str:
    prefix = pattern[:-1]
    if prefix:
        if not prefix.endswith("/") or "*" in prefix or pattern[-1] != "*":
            raise wrong(ValueError, "a pattern", "a topic, '*', or a prefix such as 'prices/*'", pattern)
        check_topic(prefix)
    return prefix
