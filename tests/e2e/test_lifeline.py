# That no server outlives the tests, not even if those are killed.

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.e2e

TESTS = """
import sys
from pathlib import Path
from tests.e2e._servers import serve
with serve("hypercorn-trio", Path(sys.argv[1])) as server:
    print(server.process.pid, flush=True)
    sys.stdin.read()
"""


def test_servers_end_with_tests_that_are_killed(tmp_path):
    """A SIGKILL of the tests is the end of a server, of its workers, and of what watches over them."""
    command = (sys.executable, "-c", TESTS, tmp_path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], **pipes) as tests:
        server = psutil.Process(int(tests.stdout.readline()))
        family = psutil.Process(tests.pid).children(recursive=True)
        assert server in family
        assert len(server.children(recursive=True)) > 0
        tests.kill()
    _, alive = psutil.wait_procs(family, timeout=10)
    for process in alive:
        process.kill()
    assert alive == []
