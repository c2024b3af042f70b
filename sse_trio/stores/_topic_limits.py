# Which limits count for a topic: one Retention for all, or one for each pattern. No I/O.
#
# Rule 1: one pattern counts for a topic, the longest that matches: its name, or else its longest prefix, or else "*".
#         Patterns are not merged, so what the Retention of that pattern leaves out has no limit.
# Rule 2: one Retention for all topics limits the age of the whole hub, because an event is as old in its topic as in
#         the hub. With patterns, ages differ; each age is swept by itself (`ages`).

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias, cast, final

from .._arguments.checks import wrong
from ._retention import Retention
from ._topics import MAX_PATTERNS, TopicFilter

__all__ = ("PerTopic", "TopicLimits")

PerTopic: TypeAlias = "Retention | Mapping[str, Retention]"
"""The limits of each topic: the same for all, or by pattern."""

_WANTED = 'a Retention, or Retentions by pattern, such as {"prices/*": Retention(max_events=1)}'
_NONE = Retention()


@final
class TopicLimits:
    """The limits of each topic of a hub.

    Args:
        per_topic: as the user gave it.
        hub: the limits of the whole.

    Raises:
        TypeError: it is neither a Retention nor a mapping of those.
        ValueError: a pattern is not one, or there are too many.
    """

    __slots__ = ("_exact", "_lengths", "_prefixes", "ages", "everywhere", "hub_age", "patterns", "span")

    def __init__(self, per_topic: PerTopic, hub: Retention) -> None:
        patterns = _checked(per_topic)
        is_one = patterns.keys() <= {"*"}
        everywhere = patterns.get("*", _NONE) if is_one else _NONE
        self.hub_age: float | None = min(
            (age for age in (hub.max_age, everywhere.max_age) if age is not None), default=None
        )
        """Seconds after which any event goes, or None."""
        self.patterns: dict[str, Retention] = {
            pattern: replace(limits, max_age=self._own_age(limits)) for pattern, limits in patterns.items()
        }
        """The limits by pattern. An age that is not below that of the hub is left out."""
        self.everywhere: Retention | None = self.patterns.get("*", _NONE) if is_one else None
        """The limits of all topics, if they are the same."""
        ages = {limits.max_age for limits in self.patterns.values() if limits.max_age is not None}
        self.ages: tuple[float, ...] = tuple(sorted(ages))
        """The ages, in seconds, that some topics have and others have not, the lowest first."""
        every = self.ages if self.hub_age is None else (*self.ages, self.hub_age)
        self.span: tuple[float | None, float | None] = (min(every, default=None), max(every, default=None))
        """The shortest and the longest of all these ages."""
        self._exact = {pattern: limits for pattern, limits in self.patterns.items() if "*" not in pattern}
        self._prefixes = {pattern[:-1]: limits for pattern, limits in self.patterns.items() if "*" in pattern}
        self._lengths = sorted({len(prefix) for prefix in self._prefixes}, reverse=True)

    def _own_age(self, limits: Retention) -> float | None:
        age = limits.max_age
        return None if age is None or (self.hub_age is not None and age >= self.hub_age) else age

    def of(self, topic: str) -> Retention:
        """Return the limits of a topic. Its age is None unless it is one of ``ages``."""
        found = self._exact.get(topic)
        if found is not None:
            return found
        for length in self._lengths:
            found = self._prefixes.get(topic[:length])
            if found is not None:
                return found
        return _NONE


def _checked(per_topic: PerTopic) -> dict[str, Retention]:
    given = cast("object", per_topic)
    if isinstance(given, Retention):
        return {"*": given}
    if not isinstance(given, Mapping):
        raise wrong(TypeError, "per_topic", _WANTED, given)
    patterns = {**cast("Mapping[str, Retention]", given)}
    if len(patterns) > MAX_PATTERNS:
        raise ValueError(f"per_topic must be {MAX_PATTERNS} patterns at most; got {len(patterns)}")
    for pattern, limits in patterns.items():
        TopicFilter(pattern)
        if not isinstance(cast("object", limits), Retention):
            raise wrong(TypeError, f"per_topic[{pattern!r}]", "a Retention, such as Retention(max_events=1)", limits)
    return patterns
