# Bytes to events and events to bytes, as WHATWG HTML section 9.2 defines them. No I/O.
#
#   event.py        ServerSentEvent: a legal event, encoded when it is made
#   json.py         the data of ServerSentEvent.json()
#   wrong_value.py  what was given in place of an event, and what to write
#   decoder.py      EventDecoder: bytes back to events, linear and bounded
#   line_ends.py    CR, LF and CRLF, also when a chunk ends between the two
#   batch.py        the bytes of one message to the server
#   errors.py, received.py, oversize.py    the errors, the events and the dropped events of a decoder
#   returned.py     checks of what the user's functions return
#   visible.py      untrusted text, made safe to show

from __future__ import annotations

__all__ = ()
