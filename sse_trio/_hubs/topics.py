# Topics made from names that come from outside.
#
# Rule 1: a name is one level, whatever is in it: "/" and "*" are quoted, and "%", so that no two names give one topic.
# Rule 2: an empty name is a level too: a lone "%", which no other name gives.

from __future__ import annotations

from .._arguments.checks import check_text
from ..stores._topics import check_topic

__all__ = ("topic_of",)

_QUOTED = str.maketrans({"%": "%25", "/": "%2F", "*": "%2A"})


def topic_of(*names: str) -> str:
    """Return the topic whose levels are these names."""
    if not names:
        raise TypeError('topic() must be given one name or more, such as topic("rooms", name); got none')
    for name in names:
        check_text("each name", name)
    return check_topic("/".join([name.translate(_QUOTED) or "%" for name in names]))
