# A pytest plugin: writes down which tests of a session passed and which did not, by their names.

from __future__ import annotations

import json
import os
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


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # in the process that hears of every other's tests
        config.pluginmanager.register(Outcomes())
