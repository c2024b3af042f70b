# Runs in real processes whose servers are killed. The long trial is benchmarks/runs_processes.py.

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..stores.conftest import binary_of

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "runs_processes.py"
SMALL = ["--servers", "2", "--runs", "12", "--events", "60", "--watchers", "24", "--kills", "2", "--within", "90"]


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.timeout(120)
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_watchers_see_a_prefix_and_one_end(store):
    """Servers are killed and watchers reload: each sees a prefix without loss, double or disorder, then one end."""
    redis = ["--redis-server", binary_of("redis")] if store == "redis" else []
    sizes = os.environ.get("SSE_TRIO_RUNS", "").split() or SMALL
    done = subprocess.run([sys.executable, SCRIPT, store, *sizes, *redis], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "kills: 2" in done.stdout or "SSE_TRIO_RUNS" in os.environ
