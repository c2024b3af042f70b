# The key of a publish: a name, or a producer and a number.
#
# Rule 1: a store knows pairs. A name becomes a pair that can't be one of the user's, because it begins with NUL.

from __future__ import annotations

from .._arguments.checks import check_text, wrong

__all__ = ("key_of",)


def key_of(key: str | tuple[str, int] | None) -> tuple[str, int] | None:
    """Return the key as a store knows it. ValueError for an empty name; pairs are checked where they are used."""
    if not isinstance(key, str):
        return key
    check_text("key", key, "a str")
    if not key:
        raise wrong(ValueError, "key", "a str that is not empty, or (producer, number)", key)
    return f"\0{key}", 0
