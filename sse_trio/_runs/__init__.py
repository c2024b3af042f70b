# Runs: streams that outlive their clients. A producer that runs once, whoever watches, under a key.
#
#   runs.py       open_runs() and Runs, the handle: start, stop, status, response
#   task.py       one run: its producer, and the task that keeps what it sends
#   log.py        what is appended to the store for one run, also while the store is down
#   ending.py     how a run ends, and what of it clients are sent
#   record.py     what the store keeps beside a run's events
#   keeper.py     leases: renewed for the runs of this process, taken over from processes that are gone; and `ttl`
#   control.py    messages between processes: stop, and who is watched where
#   response.py   a run as a response
#   options.py    the options, checked

from __future__ import annotations

__all__ = ()
