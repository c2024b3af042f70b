from __future__ import annotations

import subprocess
import sys

import pytest

import sse_trio.testing

HTTPX_IS_LAZY = """
import sys
import sse_trio.testing
assert "httpx" not in sys.modules
sse_trio.testing.StreamingASGITransport
assert "httpx" in sys.modules
"""


@pytest.mark.parametrize("name", sse_trio.testing.__all__)
def test_all_names_are_there(name: str) -> None:
    """Everything in __all__ can be imported."""
    assert getattr(sse_trio.testing, name).__name__ == name


def test_unknown_name() -> None:
    """A name that isn't there is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'TestServer'"):
        _ = sse_trio.testing.TestServer


def test_httpx_is_imported_by_the_transport_only() -> None:
    """The kit works without httpx, which is an extra."""
    subprocess.run([sys.executable, "-c", HTTPX_IS_LAZY], check=True)
