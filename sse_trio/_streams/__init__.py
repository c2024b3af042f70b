# One stream: from the options of a response to its final frame.
#
#   response.py          EventSourceResponse: the options, the head, the negotiation
#   options.py           the options, checked where the response is made
#   sources.py           what a response may be made of, brought to one form
#   stream.py            where source, writer and disconnect meet, and the one way out
#   writer.py            the single writer to the server's `send`
#   notices.py           what the library itself says: retry, pings, farewell

from __future__ import annotations

__all__ = ()
