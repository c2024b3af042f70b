from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[[str], pytest.RunResult]

CONFTEST = 'pytest_plugins = ["sse_trio.testing.pytest_plugin"]\n'
IMPORTS = "import time, anyio, anyio.to_thread, pytest\nfrom sse_trio.testing import virtual_backend\n"


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Gives a function that runs a project of a user's with ``body`` as its only test file."""

    def run(body: str) -> pytest.RunResult:
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(IMPORTS + body)
        return pytester.runpytest_inprocess("-p", "no:asyncio", "-p", "no:cacheprovider")

    return run


def test_autojump_on_every_backend(run: Run) -> None:
    """With anyio's own anyio_backend a test that names autojump runs in virtual time on both loops."""
    result = run("""
@pytest.mark.anyio
async def test_hour(autojump):
    await anyio.sleep(3600)
    assert anyio.current_time() == 3600
""")
    result.assert_outcomes(passed=2)


def test_autojump_with_a_backend_of_the_users(run: Run) -> None:
    """An anyio_backend fixture of the user's is obeyed, options and all."""
    result = run("""
@pytest.fixture
def anyio_backend():
    return ("asyncio", {"debug": True})

@pytest.mark.anyio
async def test_hour(autojump, anyio_backend_name):
    await anyio.sleep(3600)
    assert anyio_backend_name == "asyncio"
""")
    result.assert_outcomes(passed=1)


def test_autojump_reaches_async_fixtures(run: Run) -> None:
    """Async fixtures named after autojump run in the same virtual time, their clean-up included."""
    result = run("""
@pytest.fixture
async def slow():
    await anyio.sleep(3600)
    yield anyio.current_time()
    await anyio.sleep(3600)

@pytest.mark.anyio
async def test_hour(autojump, slow):
    assert slow == 3600
""")
    result.assert_outcomes(passed=2)


def test_autojump_too_late(run: Run) -> None:
    """An async fixture that starts the loop before autojump is an error that says what to do."""
    result = run("""
@pytest.fixture
async def early():
    yield

@pytest.mark.anyio
async def test_hour(early, autojump):
    pass
""")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*put `autojump` first*"])


def test_thread_fails_the_test(run: Run) -> None:
    """A test that uses a thread in virtual time fails and is told why, also when it would have passed."""
    result = run("""
@pytest.mark.anyio
async def test_thread(autojump):
    await anyio.to_thread.run_sync(time.sleep, 0.25)
""")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*VirtualTimeError: a thread*was in use under virtual time*"])


def test_thread_fails_the_test_of_a_virtual_backend(run: Run) -> None:
    """The same holds where the project's anyio_backend is virtual for every test."""
    result = run("""
@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return virtual_backend(request.param)

@pytest.mark.anyio
async def test_thread():
    await anyio.to_thread.run_sync(time.sleep, 0.25)

@pytest.mark.anyio
async def test_hour():
    await anyio.sleep(3600)
""")
    result.assert_outcomes(failed=2, passed=2)


def test_real_clock_is_left_alone(run: Run) -> None:
    """Tests that don't ask for virtual time keep the real clock, threads and all."""
    result = run("""
@pytest.mark.anyio
async def test_thread():
    await anyio.to_thread.run_sync(time.sleep, 0.25)

def test_plain():
    pass
""")
    result.assert_outcomes(passed=3)
