# Bytes to events and events to bytes, without I/O: what WHATWG HTML section 9.2 says goes over the wire.
#
#   event.py        ServerSentEvent: a legal event, encoded when it is made
#   json.py         the data of ServerSentEvent.json()
#   decoder.py      EventDecoder: bytes back to events, linear and bounded
#   line_ends.py    CR, LF and CRLF, also when a chunk ends between the two
#   batch.py        what is written in one message
#   errors.py, received.py, oversize.py    what a decoder raises, gives out, and leaves out
#   returned.py     what a user's function returned, checked
#   visible.py      text of strangers, as people may see it

from __future__ import annotations

__all__ = ()
