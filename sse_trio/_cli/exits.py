# How a command ends: its exit code, and what it says when something went wrong.
#
# Rule: Ctrl+C, and a program that stops reading the output, are ways to end and not errors.

from __future__ import annotations

import os
import signal
import sys

import httpx

from .._errors import SSEError
from .output import Screen

__all__ = ("EXPECTED", "EXTRA_MISSING", "FAILED", "INTERRUPTED", "WRONG_ARGUMENTS", "report")

FAILED = 1
WRONG_ARGUMENTS = 2
EXTRA_MISSING = 3
INTERRUPTED = 128 + signal.SIGINT
EXPECTED = (SSEError, httpx.InvalidURL, BrokenPipeError)
"""What `report` says without a traceback."""


def report(screen: Screen, exc: Exception) -> int:
    """Show what went wrong, and return the exit code."""
    if not isinstance(exc, BrokenPipeError):
        screen.error(str(exc))
        return WRONG_ARGUMENTS if isinstance(exc, httpx.InvalidURL) else FAILED
    # Python's documentation on SIGPIPE: otherwise Python complains at exit that it can't flush stdout.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
