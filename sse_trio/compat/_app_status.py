# AppStatus: sse-starlette's flag for a shutdown of the server. It stands for our StreamGroup.
#
# Rule 1: in sse-starlette it is a flag of the process that every stream polls, and every later server finds it set.
#         Here, setting it reaches the default group of each event loop in which a stream was opened. It keeps no group
#         alive: a loop that starts later begins anew.
# Rule 2: fixtures and signal handlers may assign to it in any thread, with or without an event loop; it means the same
#         everywhere. An assignment that has no meaning here is an error that says what to write instead.

from __future__ import annotations

from typing import Final, NoReturn, final
from weakref import ref

from anyio.from_thread import run_sync

from .._groups.group import StreamGroup, default_group, group_state_of

__all__ = ("AppStatus", "note_default_group")

NOT_FOR_ALL = (
    "AppStatus can't turn off the shutdown of streams at a signal for the whole process; give the responses "
    "group=StreamGroup(signals=False), and call its request_shutdown() to end them"
)
NOT_REPLACED = (
    "AppStatus.original_handler must be None: it is the method of uvicorn that sse-starlette replaced, and nothing was "
    "replaced here; install your own signal handler, which is called after ours"
)


@final
class _AppStatus:
    """Whether the server shuts down: sse-starlette's flag, for the default :class:`StreamGroup` of each event loop.

    You need not set anything on uvicorn, whose signals are noticed, and not reset anything between tests: each event
    loop begins anew.
    """

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        # Replaced as a whole, so that a signal handler or another thread never sees half of a change.
        self._groups: tuple[ref[StreamGroup], ...] = ()

    @property
    def should_exit(self) -> bool:
        """Whether a shutdown was requested. Set ``True`` to request it at once, ``False`` to let new streams open.

        It concerns the streams that have no ``group`` of their own. Setting it affects every event loop of the process
        in which one of the adapter's streams was opened, and the loop that runs here. Reading it in an event loop, in a
        signal handler of its thread or in a worker thread of anyio gives that loop's state; elsewhere it is ``True``
        while streams that are shutting down are still open.
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

        You may set it to anything; that does nothing, because here no event outlives its loop.
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
        """``None``, because nothing in uvicorn was replaced. You can only set it to ``None``."""
        return

    @original_handler.setter
    def original_handler(self, value: object) -> None:
        if value is not None:
            raise NotImplementedError(NOT_REPLACED)

    def handle_exit(self, *args: object, **kwargs: object) -> None:
        """Set :attr:`should_exit`. It calls no handler of uvicorn, because it has replaced none."""
        del args, kwargs
        self.should_exit = True

    def disable_automatic_graceful_drain(self) -> NoReturn:
        """Raise :exc:`NotImplementedError`. Use ``StreamGroup(signals=False)`` instead."""
        raise NotImplementedError(NOT_FOR_ALL)

    def enable_automatic_graceful_drain_mode(self) -> None:
        """Do nothing: it is always on."""

    def note(self, group: StreamGroup) -> None:
        """Include this group from now on, as long as its event loop keeps it. Internal: responses call it."""
        noted = self._noted()
        if group not in noted:
            self._groups = tuple(ref(each) for each in (*noted, group))

    def _noted(self) -> list[StreamGroup]:
        return [group for each in self._groups if (group := each()) is not None]


AppStatus: Final = _AppStatus()
"""See :class:`_AppStatus`."""


def note_default_group() -> None:
    """Have :data:`AppStatus` include the streams of this event loop."""
    AppStatus.note(default_group())


def _group() -> StreamGroup | None:
    try:
        return default_group()
    except RuntimeError:
        pass  # no event loop runs in this thread, but this may be a worker thread of one
    try:
        return run_sync(default_group)
    except RuntimeError:
        return None
