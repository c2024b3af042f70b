# How much a test that finds by volume does: all of it in CI, a tenth of it elsewhere.
#
# Rule 1: it is for random scripts, seeds, Hypothesis's examples and crowds, where less of the same shows the same with
#         less certainty. It is not for a size that a promise names, nor for a set of cases that are not alike.
# Rule 2: what volume has found once gets a test of its own, which always runs.

from __future__ import annotations

import os


def volume(count: int) -> int:
    """Return `count` in CI, and a tenth of it elsewhere: at least 1."""
    return count if os.environ.get("CI") else max(1, count // 10)
