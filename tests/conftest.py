# What every test runs on.
#
# Rule 1: a test marked `anyio` runs on asyncio and on trio, both in virtual time. No test sleeps.
# Rule 2: a test that needs threads, sockets or processes says so with the fixture `real_clock`.

from __future__ import annotations

import pytest

from sse_trio.testing import virtual_backend

pytest_plugins = ["sse_trio.testing.pytest_plugin", "pytester"]


@pytest.fixture
def real_clock() -> None:
    """Say that this test needs the real clock: ``pytest.mark.usefixtures("real_clock")``."""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """The event loop of the test, with virtual time unless it asks for ``real_clock``."""
    return request.param if "real_clock" in request.fixturenames else virtual_backend(request.param)
