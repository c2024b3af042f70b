# AppStatus: sse-starlette's word for "the server goes", and ours, which is a StreamGroup.
#
# Rule 1: in sse-starlette it is a flag of the process that every stream polls, and that every later server finds set.
#         Here it tells the default groups of the event loops in which streams were opened, and keeps hold of none: a
#         loop that starts later begins anew.
# Rule 2: what fixtures and signal handlers assign is taken wherever they run, in any thread and without a loop, and
#         means the same. What can't be meant is an error that says what to write instead.

from __future__ import annotations

from typing import Final, NoReturn, final
from weakref import ref

from anyio.from_thread import run_sync

from .._groups.group import StreamGroup, default_group, group_state_of

__all__ = ("AppStatus", "note_default_group")

NOT_FOR_ALL = (
    "whether streams end at a signal is not a setting of the process here; give the responses "
    "group=StreamGroup(signals=False), and call its request_shutdown() when they are to end"
)
NOT_REPLACED = (
    "AppStatus.original_handler is the method of uvicorn's that sse-starlette replaced, and nothing was replaced here; "
    "install a signal handler of your own, which is called after ours"
)


@final
class _AppStatus:
    """Whether the server shuts down: sse-starlette's flag, as the default :class:`StreamGroup` of each event loop.

    Nothing has to be set on uvicorn, whose signals are heard of, or reset between tests: each event loop begins anew.
    """

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        # Replaced as a whole, so that a signal handler or another thread never sees a half of it.
        self._groups: tuple[ref[StreamGroup], ...] = ()

    @property
    def should_exit(self) -> bool:
        """Whether the streams were told to end. ``True`` tells them, at once; ``False`` lets new ones open again.

        Speaks of the streams without a ``group`` of their own. Setting it is for every event loop of the process in
        which one of the adapter's was opened, and for the one that runs here. Read in an event loop, in a signal
        handler of its thread or in a worker thread of anyio's, it is that loop's; elsewhere it is ``True`` while
        streams that were told are still open.
        """
        here = _group()
        if here is not None:
            return here.shutdown_requested
        return any(group.shutdown_requested and group.statistics().open_streams for group in self._noted())

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        here = _group()
        if here is not None:
            self.note(here)
        for group in self._noted():
            if value:
                group.request_shutdown()
            else:
                group_state_of(group).withdraw_shutdown()

    @property
    def should_exit_event(self) -> None:
        """``None``. Older versions kept an event here, bound to one event loop, which tests had to replace.

        May be set to anything, which does nothing: here no event outlives its loop.
        """
        return

    @should_exit_event.setter
    def should_exit_event(self, value: object) -> None:
        del value

    @property
    def enable_automatic_graceful_drain(self) -> bool:
        """``True``: streams end at a signal. Setting it to ``False`` is :meth:`disable_automatic_graceful_drain`."""
        return True

    @enable_automatic_graceful_drain.setter
    def enable_automatic_graceful_drain(self, value: bool) -> None:
        if not value:
            self.disable_automatic_graceful_drain()

    @property
    def original_handler(self) -> None:
        """``None``: nothing of uvicorn's was replaced. May be set to ``None`` only."""
        return

    @original_handler.setter
    def original_handler(self, value: object) -> None:
        if value is not None:
            raise NotImplementedError(NOT_REPLACED)

    def handle_exit(self, *args: object, **kwargs: object) -> None:
        """Set :attr:`should_exit`; calls no handler of uvicorn's, since it has taken the place of none."""
        del args, kwargs
        self.should_exit = True

    def disable_automatic_graceful_drain(self) -> NoReturn:
        """Raise :exc:`NotImplementedError`, which says what to write instead: ``StreamGroup(signals=False)``."""
        raise NotImplementedError(NOT_FOR_ALL)

    def enable_automatic_graceful_drain_mode(self) -> None:
        """Do nothing: it is never off."""

    def note(self, group: StreamGroup) -> None:
        """Speak of this group from now on, for as long as its event loop keeps it. Internal: responses call it."""
        noted = self._noted()
        if group not in noted:
            self._groups = tuple(ref(each) for each in (*noted, group))

    def _noted(self) -> list[StreamGroup]:
        return [group for each in self._groups if (group := each()) is not None]


AppStatus: Final = _AppStatus()
"""See :class:`_AppStatus`."""


def note_default_group() -> None:
    """Have :data:`AppStatus` speak of the streams of this event loop, too."""
    AppStatus.note(default_group())


def _group() -> StreamGroup | None:
    try:
        return default_group()
    except RuntimeError:
        pass  # no event loop runs in this thread; but it may be one of its worker threads
    try:
        return run_sync(default_group)
    except RuntimeError:
        return None
