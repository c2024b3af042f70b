# Reading a request.
#
#   headers.py      which media type the client prefers, and which event it has received last
#   authorize.py    whether it may ask

from __future__ import annotations

__all__ = ()
