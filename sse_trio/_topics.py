# Topics and the patterns that select them. Names only: no events, no I/O.
#
# Rule 1: a topic is any text without "*" that UTF-8 can carry. "/" divides it into levels by convention only.
# Rule 2: a pattern is a topic, or `prefix/*` for every topic below a prefix at any depth, or `*` for all of them.
#         `prices/*` matches `prices/eur/usd`; it matches neither `prices` nor `pricesheet`.
# Rule 3: patterns are parsed once, when a filter is made. Hub and stores get the same object, so that what a
#         subscriber is sent live and what it is sent from history can't differ.

from __future__ import annotations

from typing import cast, final

__all__ = ("TopicFilter", "check_topic")


def check_topic(topic: str) -> str:
    """Return ``topic`` when events can be published to it.

    Raises:
        TypeError: it is no ``str``.
        ValueError: it is empty, has a ``*``, or has a lone surrogate, which UTF-8 can't carry.
    """
    if not isinstance(cast("object", topic), str):
        raise TypeError(f"a topic must be a str, not {type(topic).__name__}")
    if not topic or "*" in topic:
        raise ValueError(f"{topic[:80]!r} is no topic to publish to: a topic is not empty, and * is for subscribers")
    try:
        topic.encode()
    except UnicodeEncodeError:
        raise ValueError(f"topic {topic[:80]!r} has a lone surrogate, which UTF-8 can't carry") from None
    return topic


@final
class TopicFilter:
    """What a subscriber asked for: exact topics, and prefixes that end in ``*``.

    Args:
        patterns: at least one topic, ``prefix/*`` or ``*``. Order and doubles don't matter.

    Raises:
        TypeError: a pattern is no ``str``.
        ValueError: no pattern, an illegal topic, or a ``*`` that isn't the last level of its pattern.
    """

    __slots__ = ("exact", "prefixes")

    exact: frozenset[str]
    """The topics named in full, without those that a prefix covers anyway."""
    prefixes: tuple[str, ...]
    """The prefixes without their ``*``; the empty one selects every topic."""

    def __init__(self, *patterns: str) -> None:
        if not patterns:
            raise ValueError('no topic was given; write "*" for all topics')
        prefixes = {_prefix(pattern) for pattern in patterns if "*" in _text(pattern)}
        widest = {prefix for prefix in prefixes if not any(_is_below(prefix, other) for other in prefixes)}
        self.prefixes = tuple(sorted(widest))
        exact = {check_topic(pattern) for pattern in patterns if "*" not in pattern}
        self.exact = frozenset(topic for topic in exact if not topic.startswith(self.prefixes))

    def matches(self, topic: str) -> bool:
        """Whether an event of ``topic`` is one that was asked for."""
        return topic in self.exact or topic.startswith(self.prefixes)

    @property
    def matches_all(self) -> bool:
        """Whether every topic was asked for."""
        return self.prefixes == ("",)

    @property
    def patterns(self) -> tuple[str, ...]:
        """What was asked for, sorted, without what another pattern covers."""
        return (*sorted(self.exact), *[f"{prefix}*" for prefix in self.prefixes])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TopicFilter):
            return NotImplemented
        return self.exact == other.exact and self.prefixes == other.prefixes

    def __hash__(self) -> int:
        return hash((self.exact, self.prefixes))

    def __repr__(self) -> str:
        return f"TopicFilter({', '.join(map(repr, self.patterns))})"


def _text(pattern: str) -> str:
    if not isinstance(cast("object", pattern), str):
        raise TypeError(f"a topic must be a str, not {type(pattern).__name__}")
    return pattern


def _prefix(pattern: str) -> str:
    prefix = pattern[:-1]
    if prefix:
        if not prefix.endswith("/") or "*" in prefix or pattern[-1] != "*":
            raise ValueError(f"{pattern[:80]!r} is no pattern: * is the last level, as in 'prices/*', or stands alone")
        check_topic(prefix)
    return prefix


def _is_below(prefix: str, other: str) -> bool:
    return prefix != other and prefix.startswith(other)
