# Content codings: which one a client gets, and what compresses its stream.
#
#   accept_encoding.py   the negotiation (RFC 9110 section 12.5.3)
#   codings.py           gzip, br and zstd, imported when one is asked for
#   coder.py             one compressor for one stream
#   shared.py            one compressor for all subscribers who read the same

from __future__ import annotations

__all__ = ()
