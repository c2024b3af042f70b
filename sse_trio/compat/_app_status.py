# AppStatus: sse-starlette's word for "the server goes", and ours, which is a StreamGroup.
#
# Rule 1: it holds nothing. In sse-starlette it is a flag of the whole process that every stream polls, and that every
#         later server in the process finds set. Here it stands for the default group of the running event loop.

from __future__ import annotations

from typing import Final, NoReturn, final

from anyio.from_thread import run_sync

from .._group import StreamGroup, current_run

__all__ = ("AppStatus",)

NOWHERE = (
    "AppStatus.should_exit = True ends the streams of the running event loop, and none runs in this thread; give the "
    "responses group=StreamGroup() and call its request_shutdown(), which may be called from any thread"
)
NO_WAY_BACK = (
    "AppStatus.should_exit = False: streams of this event loop were told of a shutdown, and there is no way back; each "
    "event loop begins anew, so nothing has to be reset between servers or tests"
)
NOT_FOR_ALL = (
    "whether streams end at a signal is not a setting of the process here; give the responses "
    "group=StreamGroup(signals=False), and call its request_shutdown() when they are to end"
)


@final
class _AppStatus:
    """Whether the server shuts down: sse-starlette's flag, as the default :class:`StreamGroup` of the event loop.

    Nothing has to be set on uvicorn, whose signals are heard of, or reset between tests: each event loop begins anew.
    """

    __slots__ = ()

    @property
    def should_exit(self) -> bool:
        """Whether the streams were told to end. Set it to ``True`` to tell them: at once, without polling.

        Speaks of the streams without a ``group`` of their own, in the running event loop. May be used in it, in a
        signal handler of its thread, and in a worker thread of anyio's. Elsewhere it is ``False``, and setting it
        raises :exc:`RuntimeError`, as it does where ``False`` would take a shutdown back.
        """
        group = _group()
        return group is not None and group.shutdown_requested

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        group = _group()
        if not value:
            if group is not None and group.shutdown_requested:
                raise RuntimeError(NO_WAY_BACK)
        elif group is None:
            raise RuntimeError(NOWHERE)
        else:
            group.request_shutdown()

    def handle_exit(self, *args: object, **kwargs: object) -> None:
        """Set :attr:`should_exit`; calls no handler of uvicorn's, since it has taken the place of none."""
        del args, kwargs
        self.should_exit = True

    def disable_automatic_graceful_drain(self) -> NoReturn:
        """Raise :exc:`NotImplementedError`, which says what to write instead: ``StreamGroup(signals=False)``."""
        raise NotImplementedError(NOT_FOR_ALL)

    def enable_automatic_graceful_drain_mode(self) -> None:
        """Do nothing: it is never off."""


AppStatus: Final = _AppStatus()
"""See :class:`_AppStatus`."""


def _group() -> StreamGroup | None:
    try:
        return current_run(None).group
    except RuntimeError:
        pass  # no event loop runs in this thread; but it may be one of its worker threads
    try:
        return run_sync(current_run, None).group
    except RuntimeError:
        return None
