# What holds for the whole suite, wherever it runs.
#
# Rule 1: on a developer's machine a test that lacks its server or browser is skipped and says so. In CI, where all of
#         it has been installed, the same skip is a failure: a test that did not run has proved nothing.
# Rule 2: what can't apply on a platform says `not applicable: ...` as its reason, and stays a skip.

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

NOT_APPLICABLE = "Skipped: not applicable"


def reason_of_skip(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """Return why a test or a module was skipped, or None if it ran (an expected failure has run)."""
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    return None


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI, turn a skip for want of something into a failure."""
    reason = reason_of_skip(report)
    if os.environ.get("CI") and reason is not None and not reason.startswith(NOT_APPLICABLE):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} did not run, and in CI that is a failure. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """See rule 1, for a test."""
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """See rule 1, for a module that skips itself."""
    report = yield
    refuse_skip(report)
    return report
