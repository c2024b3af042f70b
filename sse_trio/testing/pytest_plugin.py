# The pytest plugin: the `autojump` fixture, and a check that no test uses threads or sockets under virtual time.
#
# Rule 1: it is never loaded automatically. `pytest_plugins = ["sse_trio.testing.pytest_plugin"]` in the conftest.py at
#         the top of a test suite loads it.
# Rule 2: the user's `anyio_backend` fixture decides what a test runs on; `autojump` only replaces its clock.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anyio.pytest_plugin import get_runner

from ._clock import is_virtual, virtual_backend, watch_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ("autojump",)


@pytest.fixture
def autojump(anyio_backend: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run this test in virtual time, on the backend of ``anyio_backend``.

    Time starts at 0 and moves only when every task is blocked, straight to the next deadline. Threads, sockets and
    processes live in real time: a test that uses one fails with a ``VirtualTimeError``.

    Name it before any async fixture, or use ``pytestmark = pytest.mark.usefixtures("autojump")``: all of a test's
    async fixtures run in the one event loop that the first of them starts.
    """
    backend = virtual_backend(anyio_backend)
    # anyio keeps one runner for as long as a fixture or test holds it; the first holder decides its options.
    with get_runner(*backend) as runner:
        if not runner.run_fixture(is_virtual, {}):
            pytest.fail(
                "an async fixture started the event loop before `autojump` could; put `autojump` first in the test's "
                "arguments, and give async fixtures of a wider scope an `anyio_backend` made by virtual_backend()",
                pytrace=False,
            )
        yield backend


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a test that used a thread or a socket under virtual time, whatever its own result."""
    try:
        return (yield)
    finally:
        for name in ("autojump", "anyio_backend"):
            watch = watch_of(pyfuncitem.funcargs.get(name))
            if watch is not None:
                watch.check()
