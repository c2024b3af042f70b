# Runs: streams that outlive their clients. A producer that runs once, whoever watches, under a key.
#
#   opening.py    open_runs()
#   runs.py       Runs, the handle: start, stop, status, response
#   local.py      the runs of this process
#   watching.py   who watches a run here, and what a client that wants to is answered
#   statistics.py what start() returns, figures, observers
#   keys.py       from the key of a run to its topic, and back
#   task.py       one run: its producer, and its one end
#   recorder.py   has what the producer sends kept, without a task for each event where the store can do that
#   limits.py     its size, and that nobody watches it
#   log.py        what is appended to the store for one run, also while the store is down
#   ending.py     how a run ends, and what of it clients are sent
#   record.py     what the store keeps beside a run's events
#   keeper.py     leases: renewed for the runs of this process, taken over from processes that are gone; and `ttl`
#   control.py    messages between processes: stop, and who is watched where
#   watchers.py   the watchers that this process has of runs elsewhere, as their owners are told
#   stopping.py   stops a run, in whichever process, and waits for its end
#   response.py   a run as a response
#   options.py    the options, checked

from __future__ import annotations

__all__ = ()
