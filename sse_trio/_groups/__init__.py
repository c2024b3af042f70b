# All open streams of an application: which are admitted, which are open, and when all of them end.
#
#   group.py             StreamGroup, the handle that users have
#   run.py               a group's streams in one event loop
#   admission.py         the limits, and which streams are refused
#   fair_share.py        divides a rate among the clients
#   shutdown_watch.py    notices that a server shuts down
#   kickable.py          the groups that obey a kick from another process
#   signals.py           handles SIGINT and SIGTERM before the server does
#   statistics.py        snapshots of a stream

from __future__ import annotations

__all__ = ()
