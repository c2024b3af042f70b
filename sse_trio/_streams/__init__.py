# One stream: from the options of a response to its final frame.
#
#   response.py          EventSourceResponse: what it is made of and served with
#   options.py           the options, checked when the response is made
#   sources.py           what a response can be made of, brought to one form
#   wrong_source.py      what is no source, or no producer, and what to write instead
#   threads.py           iterators that aren't async, in worker threads
#   wrapped.py           the generator inside of the one that FastAPI makes of it
#   hints.py             notes on errors that come from a common mistake; wrong_loop.py and wrong_call.py know which
#   head.py              status, headers, content coding; the time to reconnect
#
#   stream.py            the life of a stream, in the order in which things happen
#   producers.py         runs the user's code, in its scope
#   deadlines.py         what is due when; a write that takes too long
#   pings.py             who pings
#   disconnect.py        who notices a disconnect
#   teardown.py          the only way for a stream to end
#   drain.py             what is still written at the end, and for how long
#   farewell.py          the farewell, and the other closing notices
#   snapshot.py          what there is to see of a stream
#
#   writer.py            writes at the right moments: who wakes it, and how; phases.py has its phases
#   pending.py           what it has to write, in order: head, batches, pings, the last writes
#   last_writes.py       the closing notices, and the final frame or the cut
#   server_send.py       Outlet: writes to the server, alone while a stream is open; direct writes

from __future__ import annotations

__all__ = ()
