# How long to wait before the next attempt to reach the server, and before the next look for the primary. No I/O, and no
# waiting.

from __future__ import annotations

import random
from typing import final

__all__ = ("CHECK_AFTER", "Backoff")

CHECK_AFTER = 1.0
"""Seconds for which a primary that was found is believed to be one; less with a shorter ``reply_within``. A look takes
milliseconds.
"""


@final
class Backoff:
    """The pauses between attempts: none before the second, then longer each time, up to a second."""

    def __init__(self) -> None:
        self.failures = 0

    def reset(self) -> None:
        """Note that an attempt succeeded."""
        self.failures = 0

    def next_pause(self) -> float:
        """Note that an attempt failed, and return the seconds to wait. Their random part spreads several processes."""
        self.failures += 1
        longest = min(1.0, 0.01 * 2**self.failures) if self.failures > 1 else 0.0
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 -- no secret
