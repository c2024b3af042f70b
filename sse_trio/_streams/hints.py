# Hints: an error of a producer that comes from a common mistake gets a note that says what to write instead.
#
# Rule 1: the exception stays the one that was raised. A note is added (PEP 678), which tracebacks show.
# Rule 2: it costs nothing until a stream fails.

from __future__ import annotations

from .producers import run_producer
from .wrong_call import hint_of_wrong_call
from .wrong_loop import hint_of_wrong_loop

__all__ = ("add_hints",)


def add_hints(exc: BaseException, called_in: str = run_producer.__module__) -> None:
    """Add a note to an exception of a producer, or to those in a group, if it comes from a common mistake.

    ``called_in`` is the module that called the producer.
    """
    members: tuple[BaseException, ...] | None = getattr(exc, "exceptions", None)
    if members is not None:
        for member in members:
            add_hints(member, called_in)
    elif (hint := hint_of_wrong_loop(exc) or hint_of_wrong_call(exc, called_in)) is not None:
        exc.__dict__.setdefault("__notes__", []).append(hint)  # add_note() of Python 3.11
