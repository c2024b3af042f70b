# A reconnect storm: so many clients lose their streams at one moment, as in a deploy, and come back.
#
#   python benchmarks/reconnect_storm.py --clients 1000000 --processes 80                  # simulated
#   python benchmarks/reconnect_storm.py --clients 1000000 --processes 80 --within 300
#   python benchmarks/reconnect_storm.py --check --clients 2000                            # beside a real one
#
# Rule 1: costs are measured (--check does) and given here: the CPU of a process to open one stream, the store's to read
#         a client's history. The processes are a queue, first come first served, and the store is the next one.
# Rule 2: without --within each client comes back after the browser's delay, give or take a tenth. With it, after a
#         random time of up to so many seconds, as StreamGroup(reconnect_within=...) tells each.
# Rule 3: who isn't answered in time goes away and comes again after the delay; what it had asked for is done all the
#         same, in vain. This is how a storm feeds itself.
# Rule 4: clients that ask in one step of time are one cohort, a number and no objects: what a simulation costs depends
#         on how long it lasts and not on how many come.

from __future__ import annotations

import argparse
import json
from collections import defaultdict, deque
from dataclasses import dataclass, field

STEP = 0.01  # seconds


@dataclass
class Cohort:
    """Clients that asked in one step."""

    asked: int
    unanswered: float
    gone: bool = False


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
    back: float = 0.0
    gave_up: float = 0.0
    in_vain: float = 0.0
    back_at: list[float] = field(default_factory=list)  # how many were back at the end of each step
    waits: dict[int, float] = field(default_factory=lambda: defaultdict(float))  # steps: how many waited so long

    def run(self):
        """Let everybody come back, and return the storm."""
        coming, leaving = self._first_arrivals(), defaultdict(list)
        opening, reading = deque(), deque()
        for step in range(round(self.horizon / STEP)):  # it may have no end
            if count := coming.pop(step, 0):
                cohort = Cohort(step, count)
                opening.append((cohort, count))
                leaving[step + round(self.patience / STEP)].append(cohort)
            for cohort in leaving.pop(step, ()):
                self._leave(cohort, step, coming)
            reading.extend(serve(opening, self.processes * STEP / self.open_s))
            for cohort, count in serve(reading, STEP / self.read_s):
                self._answer(cohort, count, step)
            self.back_at.append(self.back)
            if self.back > self.clients - 0.5 and not reading and not opening:
                break
        return self

    def _first_arrivals(self):
        coming = defaultdict(float)
        spread(
            coming, self.clients, *((0.9 * self.delay, 1.1 * self.delay) if self.within is None else (0, self.within))
        )
        return coming

    def _leave(self, cohort, step, coming):
        if cohort.unanswered > 0:
            cohort.gone = True
            self.gave_up += cohort.unanswered
            now = step * STEP
            spread(coming, cohort.unanswered, now + max(STEP, 0.9 * self.delay), now + max(STEP, 1.1 * self.delay))

    def _answer(self, cohort, count, step):
        if cohort.gone:
            self.in_vain += count
            return
        cohort.unanswered -= count
        self.back += count
        self.waits[step - cohort.asked] += count

    def back_after(self, share):
        """Return the seconds after which this share of the clients was back, or None."""
        wanted = share * self.clients - 0.5
        return next((round((n + 1) * STEP, 2) for n, back in enumerate(self.back_at) if back >= wanted), None)

    def wait(self, share):
        """Return the seconds that this share of those who are back had waited for their answer at most."""
        left = share * self.back
        for steps, count in sorted(self.waits.items()):
            left -= count
            if left <= 1e-6 * self.clients:
                return round(steps * STEP + self.open_s + self.read_s, 3)
        return None


def spread(coming, count, begin, end):
    """Add arrivals, evenly between two times."""
    first, last = round(begin / STEP), max(round(begin / STEP) + 1, round(end / STEP))
    for step in range(first, last):
        coming[step] += count / (last - first)


def serve(queue, most):
    """Take up to so many off a queue, and return them."""
    served = []
    while queue and most > 1e-9:
        cohort, count = queue.popleft()
        taken = min(count, most)
        most -= taken
        served.append((cohort, taken))
        if taken < count:
            queue.appendleft((cohort, count - taken))
    return served


def report(storm):
    return {
        "clients": storm.clients,
        "processes": storm.processes,
        "within_s": storm.within,
        "half_are_back_after_s": storm.back_after(0.5),
        "last_is_back_after_s": storm.back_after(1),
        "not_back_at_the_horizon": round(storm.clients - storm.back),
        "wait_p50_s": storm.wait(0.5),
        "wait_p99_s": storm.wait(0.99),
        "gave_up": round(storm.gave_up),
        "served_in_vain": round(storm.in_vain),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=80)
    parser.add_argument("--open-us", type=float, default=1000, help="CPU of a process for a stream that is opened")
    parser.add_argument("--read-us", type=float, default=73, help="of the store for a client that comes with an id")
    parser.add_argument("--within", type=float, help="reconnect_within of the StreamGroup; default: none")
    parser.add_argument("--delay", type=float, default=3.0, help="of the browser: about three seconds")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds until a client or its proxy gives up")
    parser.add_argument("--horizon", type=float, default=600.0, help="seconds after which the simulation stops")
    parser.add_argument("--check", action="store_true", help="beside a real storm, on one process and a Redis")
    parser.add_argument("--server", choices=("uvicorn", "hypercorn"), default="uvicorn", help="of --check")
    parser.add_argument("--redis", default="redis-server", help="of --check; or valkey-server")
    args = parser.parse_args()
    if args.check:
        from reconnect_storm_check import check

        check(args)
        return
    costs = (args.open_us / 1e6, args.read_us / 1e6)
    storm = Storm(args.clients, args.processes, *costs, args.within, args.delay, args.patience, args.horizon)
    print(json.dumps(report(storm.run())))


if __name__ == "__main__":
    main()
