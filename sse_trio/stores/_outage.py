# One line in the log for each outage, however often it is met.

from __future__ import annotations

import logging
from typing import final

from .._errors import StoreUnavailableError

__all__ = ("Outage",)

_logger = logging.getLogger("sse_trio")


@final
class Outage:
    """Whether a store is down, as those of its tasks know that go on trying."""

    __slots__ = ("_is_known",)

    def __init__(self) -> None:
        self._is_known = False

    def note(self, exc: StoreUnavailableError, consequence: str) -> None:
        """Say that something failed. The first time since it last succeeded, the log gets a line."""
        if not self._is_known:
            _logger.warning("%s; %s", exc, consequence)
        self._is_known = True

    def end(self) -> None:
        """Say that something succeeded."""
        self._is_known = False
