# Every open stream of an application: who is let in, who is open, and when all of them go.
#
#   group.py             StreamGroup, and its life in one event loop
#   admission.py         the limits, and who is refused
#   fair_share.py        a rate that one client can't use up
#   shutdown_watch.py    servers that shut down, with an event and without
#   signals.py           SIGINT and SIGTERM, before the server's own handlers
#   statistics.py        what a stream and a group say of themselves

from __future__ import annotations

__all__ = ()
