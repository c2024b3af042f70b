# One stream: from the options of a response to its final frame.
#
#   response.py          EventSourceResponse: the options, the head, the negotiation
#   options.py           the options, checked when the response is made
#   sources.py           what a response can be made from, brought to one form
#   threads.py           iterators that aren't async, in worker threads
#   wrapped.py           the generator inside of the one that FastAPI makes of it
#   wrong_loop.py        trio's functions on an asyncio server, or the other way round
#   stream.py            runs the producers, and is the only way for a stream to end
#   writer.py            what is written in which order: head, batches, pings, the last writes
#   outlet.py            the only caller of the server's `send`: times and counts writes, writes directly
#   last_writes.py       the closing notices, and the final frame or the cut
#   notices.py           what the library itself writes: `retry`, pings, the farewell

from __future__ import annotations

__all__ = ()
