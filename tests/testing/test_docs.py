from __future__ import annotations

import re
from pathlib import Path

import pytest

import sse_trio

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
BLOCK = re.compile(r"^```python\n(?:# (\w+)\.py\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTIONS = ("-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error")


def blocks() -> dict[str, str]:
    """The page's Python, by the file name in the first line of each block."""
    return {name: source for name, source in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if name}


def test_examples_run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The complete examples of the page pass as they stand there."""
    files = blocks()
    pytester.makeconftest('pytest_plugins = ["sse_trio.testing.pytest_plugin"]')
    pytester.makepyfile(**{name: source for name, source in files.items() if name != "conftest"})
    monkeypatch.setenv("PYTHONPATH", str(Path(sse_trio.__file__).parents[1]))
    result = pytester.runpytest_subprocess(*OPTIONS, timeout=50)
    result.assert_outcomes(passed=7)


def test_conftest_runs(pytester: pytest.Pytester) -> None:
    """The conftest for both backends makes every test virtual."""
    pytester.makeconftest(blocks()["conftest"])
    pytester.makepyfile("""
        import anyio, pytest

        @pytest.mark.anyio
        async def test_hour():
            await anyio.sleep(3600)
    """)
    result = pytester.runpytest_inprocess(*OPTIONS)
    result.assert_outcomes(passed=2)
