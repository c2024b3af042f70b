# Exceptions that come out of a stream's nursery: which of them are failures, and in what form they are raised.
#
# Rule 1: one failing task raises its own exception, several raise a group (C9). Only the nursery's own layer is taken
#         off: a group that a producer raised is the producer's.
#         Before the head, where an exception becomes the status, the only one in any nesting of groups is raised: an
#         HTTPException is that status, however many nurseries it came out of.
# Rule 2: a send that found its stream ended has not failed (C3). Only errors of that stream's own channel are meant:
#         a BrokenResourceError of some other resource is an error like any other.
# Rule 3: what has not failed may hide a cancellation: a `finally` that sends while it is being cancelled replaces it.

from __future__ import annotations

import sys
from typing import NoReturn, TypeGuard

from anyio import BrokenResourceError, get_cancelled_exc_class
from starlette.requests import ClientDisconnect

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

__all__ = (
    "BrokenChannelError",
    "append_context",
    "cancellation_behind",
    "collapse",
    "is_client_disconnect",
    "is_failure",
    "joined",
    "lone",
    "raise_again",
    "without_own",
)


class BrokenChannelError(BrokenResourceError):
    """A send that nobody will receive. It knows its channel, so that a response can tell its own from another's."""

    def __init__(self, message: str, channel: object) -> None:
        super().__init__(message)
        self.channel = channel


def collapse(exc: BaseException) -> BaseException:
    """Return what a nursery raised without the nursery's group, if there is but one exception in it.

    trio has the cancellations of other tasks in there, too. Beside anything else they don't count, as on asyncio.
    """
    if not _is_group(exc):
        return exc
    rest = [each for each in exc.exceptions if not isinstance(each, get_cancelled_exc_class())] or exc.exceptions
    if len(rest) == 1:
        return rest[0]
    return exc if len(rest) == len(exc.exceptions) else exc.derive(rest).with_traceback(exc.__traceback__)


def lone(exc: BaseException) -> BaseException:
    """Return the only exception in a group, however deep, cancellations aside; what was given if there are several."""
    leaf = exc
    while _is_group(leaf):
        leaf_or_group = collapse(leaf)
        if leaf_or_group is leaf:
            return exc
        leaf = leaf_or_group
    return leaf


def raise_again(exc: BaseException) -> NoReturn:
    """Raise what was in a group that is handled now, with its own context: ``raise`` would put the group there."""
    context = exc.__context__
    try:
        raise exc
    finally:
        exc.__context__ = context
        del exc, context  # a traceback holds this frame


def joined(*errors: BaseException | None) -> BaseException | None:
    """Return what is to be raised for these errors: none, the one that there is, or a group."""
    all_errors = [error for error in errors if error is not None]
    return collapse(BaseExceptionGroup("an event stream failed in several ways", all_errors)) if all_errors else None


def append_context(exc: BaseException, earlier: BaseException | None) -> None:
    """Have tracebacks of this exception show an earlier one, too, before those that they show already."""
    chain = [exc]
    while (context := chain[-1].__context__) is not None and context not in chain:
        chain.append(context)
    if earlier not in chain:
        chain[-1].__context__ = earlier


def is_failure(exc: BaseException) -> bool:
    """Whether there is anything in it but cancellation and requests to exit."""
    if _is_group(exc):
        return exc.subgroup(Exception) is not None
    return isinstance(exc, Exception)


def is_client_disconnect(exc: BaseException) -> bool:
    """Whether Starlette's ``request.stream()`` said in it that the client has left."""
    if _is_group(exc):
        return exc.subgroup(ClientDisconnect) is not None
    return isinstance(exc, ClientDisconnect)


def without_own(exc: BaseException, source: object) -> BaseException | None:
    """Return the exception without what only says that the stream has ended; None if there was nothing else.

    That is the errors of sends on this channel, and the client's leaving.
    """

    def is_own(leaf: BaseException) -> bool:
        return isinstance(leaf, ClientDisconnect) or (isinstance(leaf, BrokenChannelError) and leaf.channel is source)

    if _is_group(exc):
        own, rest = exc.split(is_own)
        return exc if own is None else rest  # split() makes a new group even of one that it leaves whole
    return None if is_own(exc) else exc


def cancellation_behind(exc: BaseException) -> BaseException | None:
    """Return the cancellation in whose handling this was raised, if there is one.

    asyncio delivers a ``Task.cancel()`` once. If the exception that replaced it were dropped, it would be lost.
    """
    if _is_group(exc):
        return next(filter(None, map(cancellation_behind, exc.exceptions)), None)
    context: BaseException | None = exc
    while context is not None and not isinstance(context, get_cancelled_exc_class()):
        context = context.__context__
    return context


def _is_group(exc: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    # Says what is in the group, which isinstance() doesn't.
    return isinstance(exc, BaseExceptionGroup)
