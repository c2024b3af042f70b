# What sse-starlette's tests import from a module of theirs that its sdist lacks: an exception out of its group of one.

from __future__ import annotations

from contextlib import contextmanager


@contextmanager
def collapse_excgroups():
    """Raise the one exception of a group of one, without the group."""
    try:
        yield
    except ExceptionGroup as group:  # noqa: F821 -- Python 3.11's, and only there
        error: BaseException = group
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:  # noqa: F821
            error = error.exceptions[0]
        raise error from None
