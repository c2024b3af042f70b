# Checks of arguments. Every message has one form, "`name` must be ...; got ...", and is raised at the caller's line.
#
#   checks.py       numbers, texts, functions, labels
#   http.py         headers, status codes, background tasks
#   opening.py      what is used before it was entered

from __future__ import annotations

__all__ = ()
