# Text of strangers, as people may see it.

from __future__ import annotations

import unicodedata

import pytest

from sse_trio._wire.visible import shortened, visible


@pytest.mark.parametrize("text", ["", "plain", "a\tb", "Grüße, 世界 \N{SNOWMAN}", "e\u0301"])
def test_what_people_can_see_stays(text):
    """Text without hidden characters is shown as it is."""
    assert visible(text) == text


@pytest.mark.parametrize(
    "hidden",
    [
        "\0",
        "\x1b",
        "\x7f",
        "\x9b",
        "\n",
        "\xad",
        "\u061c",
        "\u200b",
        "\u2028",
        "\u202e",
        "\u2066",
        "\ufeff",
        "\u180e",
        "\u034f",
        "\u115f",
        "\u3164",
        "\u2800",
        "\uffa0",
        "\ufe0f",
        "\U000e0041",
        "\U000e0101",
        "\ud800",
    ],
)
def test_what_they_can_not_is_shown_by_its_number(hidden):
    """A control character, a mark that reorders text, or one without a width is shown as its escape."""
    assert visible(f"a{hidden}b") == f"a{hidden.encode('unicode_escape').decode()}b"


@pytest.mark.untraced
def test_no_control_or_format_character_is_left():
    """No control or format character comes through, except the tab."""
    text = visible("".join(map(chr, range(0x110000))))
    assert {char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}} == {"\t"}


def test_shortened():
    """A text of the given length stays whole; a longer one ends with an ellipsis at that length."""
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab\N{HORIZONTAL ELLIPSIS}"
