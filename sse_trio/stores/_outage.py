# One line in the log for each outage, however often a task runs into it.

from __future__ import annotations

import logging
from typing import final

from .._errors import StoreUnavailableError

__all__ = ("Outage",)

_logger = logging.getLogger("sse_trio")


@final
class Outage:
    """Whether a store is down, for those of its tasks that go on trying."""

    __slots__ = ("_is_known",)

    def __init__(self) -> None:
        self._is_known = False

    def note(self, exc: StoreUnavailableError, consequence: str) -> None:
        """Note a failure. The first one since the last success writes a line to the log."""
        if not self._is_known:
            _logger.warning("%s; %s", exc, consequence)
        self._is_known = True

    def end(self) -> None:
        """Note a success."""
        self._is_known = False
