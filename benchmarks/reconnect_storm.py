# A reconnect storm, simulated: so many clients lose their streams at one moment, as in a deploy, and come back.
#
#   python benchmarks/reconnect_storm.py --clients 1000000 --processes 73
#   python benchmarks/reconnect_storm.py --clients 1000000 --processes 73 --within 300
#
# Rule 1: costs are measured elsewhere and given here: the CPU of a process to open one stream, the store's to read a
#         client's history. Each process and the store is one server with a queue, first come first served.
# Rule 2: without --within each client comes back after the browser's delay, give or take a tenth. With it, after a
#         random time of up to so many seconds, as StreamGroup(reconnect_within=...) tells each.
# Rule 3: who isn't answered in time goes away and comes again after the delay; what it had asked for is done all the
#         same, in vain. This is how a storm feeds itself.

from __future__ import annotations

import argparse
import heapq
import json
import random
from dataclasses import dataclass, field

ASKS, READS = range(2)


@dataclass
class Storm:
    """Clients, the costs of serving them in seconds, and how it went."""

    clients: int
    processes: int
    open_s: float
    read_s: float
    within: float | None = None
    delay: float = 3.0
    patience: float = 30.0
    horizon: float = 600.0
    seed: int = 0
    waits: list[float] = field(default_factory=list)
    in_vain: int = 0
    over: float = 0.0

    def run(self):
        """Let everybody come back, and return the storm."""
        chance = random.Random(self.seed)
        first = self._arrivals(chance)
        queue = [(at, ASKS, n % self.processes, at) for n, at in enumerate(first)]
        heapq.heapify(queue)
        process_free = [0.0] * self.processes
        store_free = 0.0
        while queue:
            at, what, process, asked = heapq.heappop(queue)
            if at > self.horizon:
                break  # it may have no end
            if what == ASKS:
                process_free[process] = done = max(at, process_free[process]) + self.open_s
                heapq.heappush(queue, (done, READS, process, asked))
                continue
            store_free = done = max(at, store_free) + self.read_s
            if done - asked <= self.patience:
                self.waits.append(done - asked)
                self.over = max(self.over, done)
            else:
                self.in_vain += 1
                again = asked + self.patience + self.delay * chance.uniform(0.9, 1.1)
                heapq.heappush(queue, (max(again, at), ASKS, chance.randrange(self.processes), max(again, at)))
        return self

    def _arrivals(self, chance):
        if self.within is None:
            return [self.delay * chance.uniform(0.9, 1.1) for _ in range(self.clients)]
        return [chance.uniform(0, self.within) for _ in range(self.clients)]


def report(storm):
    waits = sorted(storm.waits)
    return {
        "clients": storm.clients,
        "within_s": storm.within,
        "last_is_back_after_s": round(storm.over, 1),
        "not_back_at_the_horizon": storm.clients - len(waits),
        "wait_p50_s": round(waits[len(waits) // 2], 3),
        "wait_p99_s": round(waits[len(waits) * 99 // 100], 3),
        "served_in_vain": storm.in_vain,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=73)
    parser.add_argument("--open-us", type=float, default=1000, help="CPU of a process for a stream that is opened")
    parser.add_argument("--read-us", type=float, default=73, help="of the store for a client that comes with an id")
    parser.add_argument("--within", type=float, help="reconnect_within of the StreamGroup; default: none")
    parser.add_argument("--delay", type=float, default=3.0, help="of the browser: about three seconds")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds until a client or its proxy gives up")
    parser.add_argument("--horizon", type=float, default=600.0, help="seconds after which the simulation stops")
    args = parser.parse_args()
    costs = (args.open_us / 1e6, args.read_us / 1e6)
    storm = Storm(args.clients, args.processes, *costs, args.within, args.delay, args.patience, args.horizon)
    print(json.dumps(report(storm.run())))
