# Content codings: which one a client gets, and what compresses its stream.
#
#   accept_encoding.py   the negotiation (RFC 9110 section 12.5.3)
#   codings.py           gzip, br and zstd, each imported when a response uses it
#   coder.py             one compressor for one stream
#   shared.py            one compressor for all who are sent the same events
#
# A response negotiates in _streams/head.py, and compresses what it writes in _streams/pending.py.

from __future__ import annotations

__all__ = ()
