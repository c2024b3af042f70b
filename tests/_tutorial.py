# The files that a reader of docs/tutorial.md has after each of its steps.

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def blocks(language: str, beginning: str = "") -> list[str]:
    """The page's blocks in a language, in their order."""
    return [text for its_language, text in BLOCKS if its_language == language and text.startswith(beginning)]


def first_wall() -> str:
    """`wall.py` after step 2."""
    return blocks("python", "# wall.py")[0]


def careful_wall() -> str:
    """`wall.py` after step 3, whose parts replace those of step 2."""
    head, _, _ = first_wall().partition("async def clock")
    return head + blocks("python", "watching")[0]


def shared_wall() -> str:
    """`wall.py` after step 5."""
    return blocks("python", "# wall.py")[1]


def final_wall() -> str:
    """`wall.py` after step 6: other imports, and another second half."""
    head, mark, _ = shared_wall().partition("async def lines")
    assert mark
    line = re.search(r"^from sse_trio import .*\n", head, re.MULTILINE)
    assert line
    imports = blocks("python", "from sse_trio import EventSourceResponse")[0]
    return head.replace(line[0], imports) + blocks("python", "GROUP")[0]


def careful_tests() -> str:
    """`test_wall.py` after step 4."""
    return blocks("python", "# test_wall.py")[0]


def shared_tests() -> str:
    """`test_wall.py` after step 5."""
    return blocks("python", "# test_wall.py")[1]


def final_tests() -> str:
    """`test_wall.py` after step 6: without virtual time, and with another fixture."""
    head, mark, rest = shared_tests().partition("@pytest.fixture\nasync def wall")
    _, _, rest = rest.partition("\n\n\n")
    assert mark
    assert rest
    mark_of_time = ', pytest.mark.usefixtures("autojump")'
    assert mark_of_time in head
    return head.replace(mark_of_time, "") + blocks("python", mark)[0] + "\n\n" + rest


def index_page() -> str:
    """`index.html`."""
    return blocks("html")[0]


def unit() -> str:
    """`wall.service`."""
    return blocks("ini")[0]
