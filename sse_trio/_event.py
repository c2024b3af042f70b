# ServerSentEvent: one event as a value, and the bytes it is on the wire. No I/O, no anyio.
#
# Rule 1: an event that exists can be encoded. Everything that the wire can't carry is refused when it is made.
# Rule 2: nothing is silently changed. A line break in an id is an error, not a cleaned id.
# Rule 3: `data` is split at CRLF, CR and LF only, the line ends of WHATWG HTML 9.2.6; not at U+0085 or U+2028.

from __future__ import annotations
