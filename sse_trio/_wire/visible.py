# visible(): text of strangers as people may see it, in a terminal or on a page.
#
# Rule: what moves the cursor, reorders or hides text, or has no width, is shown by its number; the tab stays. So a name
#       looks like no other name, and a line like no other line.

from __future__ import annotations

import unicodedata

__all__ = ("shortened", "visible")

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Marks and fillers that have no width of their own, and are in none of these categories.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def visible(text: str) -> str:
    """Return the text with every character that people can't see replaced by its escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join([_escaped(char) if _is_hidden(char) else char for char in text])


def shortened(text: str, length: int) -> str:
    """Return the text, or its beginning and an ellipsis if it is longer than this."""
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _is_hidden(char: str) -> bool:
    if char == "\t":
        return False
    variation = "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
    return variation or char in _INVISIBLE or unicodedata.category(char) in _HIDDEN


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()
