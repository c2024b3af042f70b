# visible(): makes untrusted text safe to show in a terminal or on a page.
#
# Rule: characters that move the cursor, reorder or hide text, or have no width, are shown as escapes; the tab stays. So
#       different names look different, and different lines too.

from __future__ import annotations

import unicodedata

__all__ = ("shortened", "visible")

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Marks and fillers without width that are not in these categories.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def visible(text: str) -> str:
    """Return the text with every character that can't be seen replaced by its escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join([_escaped(char) if _is_hidden(char) else char for char in text])


def shortened(text: str, length: int) -> str:
    """Return the text, or its beginning and an ellipsis if it is longer than ``length``."""
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _is_hidden(char: str) -> bool:
    if char == "\t":
        return False
    variation = "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
    return variation or char in _INVISIBLE or unicodedata.category(char) in _HIDDEN


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()
