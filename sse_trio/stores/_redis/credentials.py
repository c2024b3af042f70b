# What the user's functions say who logs in: `credentials` and `sentinel_credentials`. Checked, for the store and for a
# publisher. No I/O.
#
# Rule 1: a message names the argument that failed, since there are two, and says what the function must return.
# Rule 2: no message quotes what a function has returned, which may be a password.

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard, cast

__all__ = ("LogIn", "has_raised", "has_returned", "is_log_in")

LogIn = tuple[str | None, str]
"""A user, or None for the default one, and a password."""

_WANTED = "have it return a user, or None for the default one, and a password"


def has_raised(name: str, exc: Exception) -> str:
    """Return the message about a function that has raised: whatever it asks may be down."""
    return f"{name}() raised {exc!r}; {_WANTED}; each new try asks it again"


def is_log_in(answer: object) -> TypeGuard[LogIn]:
    """Whether this is what a function must return."""
    if not isinstance(answer, (tuple, list)) or len(cast("Sequence[object]", answer)) != 2:
        return False
    user, password = cast("Sequence[object]", answer)
    return (user is None or isinstance(user, str)) and isinstance(password, str)


def has_returned(name: str, answer: object) -> str:
    """Return the message about a function that has returned something else."""
    return f"{name}() returned {_kind_of(answer)}; {_WANTED}, as in: return None, password"


def _kind_of(answer: object) -> str:
    kind = type(answer).__name__
    if isinstance(answer, (tuple, list)):
        return f"a {kind} of {[type(each).__name__ for each in cast('Sequence[object]', answer)]}"
    return f"an object of type {kind}"
