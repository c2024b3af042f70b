# The exceptions of a stream's nursery: which of them are failures, and in what form they are raised.
#
# Rule 1: one failing task raises its own exception, several raise a group (C9). Only the nursery's own group is
#         removed: a group that a producer raised stays. Before the head is sent, an exception becomes the response's
#         status, so a single exception is raised without any of its groups: an HTTPException sets the status, whichever
#         nurseries it passed through.
# Rule 2: a send that finds its stream ended has not failed (C3). This holds only for errors of the stream's own
#         channel. A BrokenResourceError of another resource is an ordinary error.
# Rule 3: an exception that is not a failure may hide a cancellation: a `finally` that sends during a cancellation
#         replaces it.

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
    """An event was sent that will not be received. `channel` tells a response whether the channel is its own."""

    def __init__(self, message: str, channel: object) -> None:
        super().__init__(message)
        self.channel = channel


def collapse(exc: BaseException) -> BaseException:
    """Return the only exception of a nursery's group; the group if there are several.

    Cancellations are removed if there are other exceptions. On trio the group has those of the other tasks, on asyncio
    it doesn't.
    """
    if not _is_group(exc):
        return exc
    others = [each for each in exc.exceptions if not isinstance(each, get_cancelled_exc_class())] or exc.exceptions
    if len(others) == 1:
        return others[0]
    return exc if len(others) == len(exc.exceptions) else exc.derive(others).with_traceback(exc.__traceback__)


def lone(exc: BaseException) -> BaseException:
    """Return the only exception in nested groups, ignoring cancellations; the given one if there are several."""
    leaf = exc
    while _is_group(leaf):
        leaf_or_group = collapse(leaf)
        if leaf_or_group is leaf:
            return exc
        leaf = leaf_or_group
    return leaf


def raise_again(exc: BaseException) -> NoReturn:
    """Raise an exception from a group that is being handled, and keep its context. ``raise`` would set the group."""
    context = exc.__context__
    try:
        raise exc
    finally:
        exc.__context__ = context
        del exc, context  # the traceback refers to this frame


def joined(*errors: BaseException | None) -> BaseException | None:
    """Return the exception to raise for these errors: ``None``, the only one, or a group."""
    all_errors = [error for error in errors if error is not None]
    return collapse(BaseExceptionGroup("an event stream failed in several ways", all_errors)) if all_errors else None


def append_context(exc: BaseException, earlier: BaseException | None) -> None:
    """Add an earlier exception to the end of the exception's context chain, so that tracebacks show it first."""
    chain = [exc]
    while (context := chain[-1].__context__) is not None and context not in chain:
        chain.append(context)
    if earlier not in chain:
        chain[-1].__context__ = earlier


def is_failure(exc: BaseException) -> bool:
    """Whether it is, or has, an exception other than cancellation and requests to exit."""
    if _is_group(exc):
        return exc.subgroup(Exception) is not None
    return isinstance(exc, Exception)


def is_client_disconnect(exc: BaseException) -> bool:
    """Whether Starlette's ``request.stream()`` said in it that the client has left."""
    if _is_group(exc):
        return exc.subgroup(ClientDisconnect) is not None
    return isinstance(exc, ClientDisconnect)


def without_own(exc: BaseException, source: object) -> BaseException | None:
    """Return the exception without what only says that the stream has ended; ``None`` if there is nothing else.

    Errors of sends on this channel say so, and the client's leaving does.
    """

    def is_own(leaf: BaseException) -> bool:
        return isinstance(leaf, ClientDisconnect) or (isinstance(leaf, BrokenChannelError) and leaf.channel is source)

    if _is_group(exc):
        own, others = exc.split(is_own)
        return exc if own is None else others  # split() copies even a group that it leaves whole
    return None if is_own(exc) else exc


def cancellation_behind(exc: BaseException) -> BaseException | None:
    """Return the cancellation during which this exception was raised, if there is one.

    asyncio delivers a ``Task.cancel()`` once. It would be lost if the exception that replaced it were dropped.
    """
    if _is_group(exc):
        return next(filter(None, map(cancellation_behind, exc.exceptions)), None)
    context: BaseException | None = exc
    while context is not None and not isinstance(context, get_cancelled_exc_class()):
        context = context.__context__
    return context


def _is_group(exc: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    # Tells the type checker what is in the group, which isinstance() does not.
    return isinstance(exc, BaseExceptionGroup)
