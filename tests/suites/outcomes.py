# A pytest plugin: writes down which tests of a session passed and which did not, by their names.
#
# Rule: a session that is to run on the adapter has run on it, or it is an error: on sse-starlette itself everything
#       would pass and say nothing.

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest


class Outcomes:
    """What has happened so far. A test that passed and whose fixtures then failed has failed."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.failed: set[str] = set()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        outcome = {"passed": sorted(self.passed - self.failed), "failed": sorted(self.failed)}
        Path(os.environ["SSE_TRIO_OUTCOMES"]).write_text(json.dumps(outcome), encoding="utf-8")


def pytest_sessionfinish() -> None:
    """Fail where a session reached the wrong one of the two. In each process that runs tests."""
    package = sys.modules.get("sse_starlette")
    if package is not None:
        is_adapter = package.EventSourceResponse.__module__.startswith("sse_trio.")
        assert is_adapter is (os.environ["SSE_TRIO_ADAPTER"] == "1"), package


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # in the process that hears of every other's tests
        config.pluginmanager.register(Outcomes())
