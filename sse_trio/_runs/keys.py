# From the key of a run to its topic, and back.
#
# Rule 1: any text is a key. What means something in a choice of topics is quoted, so no key selects another run.

from __future__ import annotations

from typing import final

from .._arguments.checks import check_text, wrong
from ..stores._topics import check_topic

__all__ = ("RunKeys",)

_QUOTED = str.maketrans({"%": "%25", "*": "%2A"})


@final
class RunKeys:
    """The keys below one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix: str = f"{prefix}/"
        """Of the topics of runs."""

    def topic_of(self, key: str) -> str:
        """Return the topic of a run. TypeError or ValueError for what is no key."""
        check_text("key", key, "a str that is not empty")
        if not key:
            raise wrong(ValueError, "key", "a str that is not empty", key)
        return check_topic(self.prefix + key.translate(_QUOTED))

    def key_of(self, topic: str) -> str:
        """Return the key of a run's topic."""
        return topic[len(self.prefix) :].replace("%2A", "*").replace("%25", "%")
