# What a stream writes last: the closing notices, and then the final frame, or the cut of a response that has failed.

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .._wire.batch import Batch

if TYPE_CHECKING:
    from .._compression.coder import Coder
    from .server_send import Outlet

__all__ = ("FINAL_FRAME", "LastWrites")

COMMENT = b":\n"
"""A comment, which clients ignore (WHATWG HTML 9.2.6)."""


class LastWrites(NamedTuple):
    """What to write when everything else is written."""

    notices: bytes
    """The closing notices."""
    cut_after: int | None
    """None: a final frame follows. Otherwise none does: this many comments, and then the connection is cut; with 0 it
    is left to the server."""

    async def write(self, outlet: Outlet, coder: Coder | None) -> None:
        """Write them."""
        # The final frame is a separate, empty message (C6), except where Outlet.final_now() sends one for both.
        last = self.notices
        if coder is not None:
            last = coder.finish(last) if self.cut_after is None else coder.encode(Batch(last)).body
        if last:
            await outlet.write(Batch(last))
        if self.cut_after is None:
            await outlet.write_final()
        elif self.cut_after:
            await self._cut_off(outlet, coder, self.cut_after)

    async def _cut_off(self, outlet: Outlet, coder: Coder | None, after: int) -> None:
        for _ in range(after):
            batch = Batch(COMMENT)
            await outlet.send_body((batch if coder is None else coder.encode(batch)).body)
        await outlet.flush()
        outlet.connection.cut_off()


FINAL_FRAME = LastWrites(b"", None)
"""No notices, and the final frame: how nearly every stream ends. Not made for each, as it is kept by idle ones."""
