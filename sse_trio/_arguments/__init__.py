# Checks of what callers give, in one wording: "`name` must be ...; got ...", raised at the caller's line.
#
#   checks.py       numbers, texts, functions, labels
#   http.py         headers, status codes, background tasks

from __future__ import annotations

__all__ = ()
