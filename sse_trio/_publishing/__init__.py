# Publishing over HTTP, for programs in other languages.
#
#   endpoint.py    publish_endpoint(): who may publish, and the answers
#   body.py        the bytes of a request to events, without I/O

from __future__ import annotations

__all__ = ()
