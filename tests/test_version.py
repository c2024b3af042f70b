# The version: one, from the git tag, in the metadata of what is installed.

from __future__ import annotations

from importlib.metadata import version

import pytest

import sse_trio


def test_the_version_is_that_of_what_is_installed():
    """`sse_trio.__version__` is the version of the distribution that is installed."""
    assert sse_trio.__version__ == version("sse-trio")


def test_a_name_that_is_not_there_is_an_attribute_error():
    """Asking the package for a name that it does not have says so, as with any module."""
    with pytest.raises(AttributeError, match="module 'sse_trio' has no attribute 'nonsense'"):
        sse_trio.nonsense  # noqa: B018
