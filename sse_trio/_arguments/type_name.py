# How an error message names the type of a value.

from __future__ import annotations

import builtins

__all__ = ("type_name",)


def type_name(value: object) -> str:
    """Return the name of its type; with its module if a built-in has that name, as numpy's ``bool`` has."""
    kind = type(value)
    is_ambiguous = kind.__module__ != "builtins" and hasattr(builtins, kind.__name__)
    return f"{kind.__module__}.{kind.__name__}" if is_ambiguous else kind.__name__
