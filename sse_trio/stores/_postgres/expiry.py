# Events that expire, in SQL: which these are, and when they do. The first line of a payload says it (_expiry.py).
#
# Rule 1: the index `events_that_expire` (schema.py) has these very expressions, so that nobody looks at other events.
# Rule 2: the colon is written as \x3a, because SQLAlchemy takes a word after a colon for a parameter.
# Rule 3: the moment is computed only of what is marked; of anything else it may not be a number.

from __future__ import annotations

from typing import Final

__all__ = ("DUE", "IS_MARKED")

IS_MARKED: Final = r"encode(substring(payload FROM 1 FOR 49), 'escape') ~ E'^\x3aexpires -?[0-9]+[.][0-9]{6}\n'"
DUE: Final = (
    f"CASE WHEN {IS_MARKED} THEN "
    r"split_part(encode(substring(payload FROM 10 FOR 40), 'escape'), E'\n', 1)::double precision END"
)
