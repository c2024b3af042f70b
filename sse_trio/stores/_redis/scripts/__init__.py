# The Lua scripts that run inside Redis, each of them atomically: append.py appends, read.py reads events, holds.py the
# records of held topics, and adopt.py looks at a primary after a failover. All begin with state.py.
#
# Rule 1: these are the keys of a hub. All have the hash tag {name}, so that a cluster keeps them on one node:
#           {name}:meta              hash: generation, epoch, seq, count, bytes, trimmed, floor, pfloor, noted, time,
#                                    cuts ("sequence:time ...", see _cuts.py), holds (the number of held topics),
#                                    expiring (the number of events that expire),
#                                    format (1, or missing; the format's page is docs/store-format.md),
#                                    past ("epoch sequence ...": earlier epochs, and up to where their ids are good),
#                                    primary (the replication id of the server: another one after a restart or failover)
#           {name}:G:log             stream: every event of the hub, with the id <sequence>-0
#           {name}:G:topic:T         stream: the same ids, nothing else: the index of topic T
#           {name}:G:live            sorted set: topics that have events, by the newest event that is gone
#           {name}:G:ended           the same for topics that have no event left
#           {name}:G:prefixes        sorted set: prefixes of topics, by the newest event that is gone below them
#           {name}:G:bytes           hash: bytes of payload of each topic
#           {name}:G:tokens          hash: the token of each held topic (see _holds.py)
#           {name}:G:values          hash: "sequence value" of each held topic
#           {name}:G:due             sorted set: held topics, by the time of Redis when they are due
#           {name}:G:expires         sorted set: "sequence topic" of events that expire, by when (see _expiry.py)
#           {name}:G:kept            hash: payloads of held topics, by sequence, that the limits took from the log
#           {name}:key:P:N           string: the answer to the append with the key (P, N)
#           {name}:writer:W          string: the answer to the last group of writer W
#         The payload is kept once, in the log. G is the generation: all its keys belong to one history.
# Rule 2: the sequence is our own counter, not Redis' clock. So the numbers in the log have holes only where events were
#         trimmed. A reader that sees no hole has missed nothing, and needs no script.
# Rule 3: the next script notices a lost history. If meta is missing, or the log has another number of events than meta
#         says (evicted, deleted by hand), there is a new generation and a new epoch. If the sequence is below one that
#         a process has seen (a restart from an old snapshot, a failover to a replica that lagged), a new epoch; also
#         at each restart and failover, before anything is appended, or a number could be given twice by a process that
#         has seen nothing. Then ids of earlier epochs are good up to where their history goes on.
# Rule 4: a group that arrives again is not appended again. A group that arrives late, after its writer gave up and sent
#         another, is refused.
# Rule 5: the cost of a script depends on what it looks at, never on the number of topics that there are or were.
#         A topic is cleared a thousand events at a time; the answer AGAIN (-2) says that there are more.
# Rule 6: ages are computed as in _cuts.py, line for line.
# Rule 7: an older release that works on the same hub notes no ends of prefixes. `noted` is the number of events that
#         were gone when a script of this release last wrote. If that number has changed, the newest event gone counts
#         for every prefix: a gap too many rather than one too few.

from __future__ import annotations

from .adopt import ADOPT
from .append import APPEND
from .holds import HOLDS
from .read import READ

__all__ = ("ADOPT", "APPEND", "HOLDS", "READ")
