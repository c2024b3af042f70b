# sse_trio beside its alternatives, on the servers that people use: `nox -s bench`, in under five minutes.
#
#   python benchmarks/side_by_side.py [--rounds 3] [--apps bare sse_trio ...] [--servers uvicorn ...] [--plots FOLDER]
#       [--into docs/benchmarks.md]
#
# Rule 1: a figure is a ratio to `bare` on the same server, in the same round. Rounds are interleaved: all systems once,
#         then all again; what stands in the table is the median, with the smallest and the largest.
# Rule 2: each system gets a fresh process. CPU and memory are that process's, from the operating system.
# Rule 3: the load generator's own share of a core is in the table: where that is near 1, the rest says little.
#
# Compare figures of one machine only. `--into` writes the table between `<!-- figures -->` and `<!-- /figures -->` of
# these files, or of some systems only, as after `<!-- figures bare sse_trio -->`: what stands in the
# documentation was made so.

from __future__ import annotations

import argparse
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import psutil
from _load import Streams, cpu_seconds, flood, short_streams
from side_by_side_apps import APPS, RARE

HERE = Path(__file__).parent
SERVERS = {
    "uvicorn": ["uvicorn", "--no-access-log", "--log-level", "error", "--port", "{port}", "{app}"],
    "hypercorn-asyncio": ["hypercorn", "--log-level", "error", "-k", "asyncio", "-b", "127.0.0.1:{port}", "{app}"],
    "hypercorn-trio": ["hypercorn", "--log-level", "error", "-k", "trio", "-b", "127.0.0.1:{port}", "{app}"],
}
COUNTS = (50, 300)  # subscribers
HZ = 20
SECONDS = 0.8
FLOOD = 10_000
SETTLE = 0.5  # seconds, in which paced streams are set up
PACED = 100  # streams, HZ events a second each
SHORT = 200  # streams of one event
RATIOS = ("paced", "short", "events_per_s", f"us_{max(COUNTS)}", "kb")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serve(app, server):
    """Run one system; yield its port and its process."""
    port = free_port()
    arguments = [part.format(port=port, app="side_by_side_apps:app") for part in SERVERS[server]]
    return running(arguments, port, BENCH_APP=app)


@contextmanager
def running(arguments, port, **variables):
    """Run a server's module in this folder, with these variables in its environment; yield its port and its process."""
    environment = {**os.environ, **variables, "PYTHONPATH": str(HERE)}
    process = subprocess.Popen([sys.executable, "-m", *arguments], env=environment, cwd=HERE)
    try:
        wait_started(port, process)
        yield port, psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def wait_started(port, process):
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the server did not start") from None
            time.sleep(0.05)
        else:
            return


def used(process):
    """CPU seconds and bytes of a server and its children."""
    family = [process, *process.children(recursive=True)]
    return sum(cpu_seconds(each.pid) for each in family), sum(each.memory_info().rss for each in family)


def measure(app, server):
    """Return the figures of one system, once."""
    with serve(app, server) as (port, process):
        flood(port, 200)  # what is imported and compiled at the first request
        seconds, own = flood(port, FLOOD)
        figures = {"events_per_s": FLOOD / seconds, "load": own / seconds}
        figures |= measure_short(port, process)
        for count in COUNTS:
            _, before = used(process)
            with Streams(port, count) as subscribers:
                subscribers.drain(0.4)
                cpu, after = used(process)
                latencies, own = subscribers.publish(int(HZ * SECONDS), HZ)
                figures[f"us_{count}"] = (used(process)[0] - cpu) / len(latencies) * 1e6
                latencies.sort()
                figures[f"p50_{count}"] = latencies[len(latencies) // 2]
                figures[f"p99_{count}"] = latencies[len(latencies) * 99 // 100]
                figures["load"] = max(figures["load"], own / SECONDS)
                if count == max(COUNTS):
                    figures["kb"] = (after - before) / count / 1024
        # Last, since `bare` goes on sending when its clients have left.
        return figures | measure_paced(port, process)


def measure_paced(port, process):
    """Each stream has a producer of its own, which sends now and then."""
    with Streams(port, PACED, f"/paced?n={int(HZ * (SETTLE + SECONDS + 1))}&hz={HZ}") as streams:
        streams.drain(SETTLE)
        cpu, _ = used(process)
        latencies, _ = streams.take(SECONDS)
        per_event = (used(process)[0] - cpu) / len(latencies) * 1e6
    latencies.sort()
    return {
        "paced": per_event,
        "paced_p50": latencies[len(latencies) // 2],
        "paced_p99": latencies[len(latencies) * 99 // 100],
    }


def measure_short(port, process):
    """A stream of one event, opened and finished."""
    cpu, _ = used(process)
    short_streams(port, SHORT)
    return {"short": (used(process)[0] - cpu) / SHORT * 1e6}


def spread(runs, base, key):
    """The median ratio to the base, with the smallest and the largest."""
    ratios = [run[key] / other[key] for run, other in zip(runs, base, strict=True) if run and other and other[key] > 0]
    if not ratios:
        return "-"
    low, high = min(ratios), max(ratios)
    return f"{statistics.median(ratios):.2f} ({low:.2f}-{high:.2f})"


def median(runs, key):
    return statistics.median([run[key] for run in runs if run] or [float("nan")])


def print_table(results, servers, apps):
    most = max(COUNTS)
    print(f"\n{describe()}\nratios to bare ASGI on the same server: median (smallest-largest)\n")
    columns = (
        f"{'CPU, paced':>20}{'p50 ms':>8}{'p99 ms':>8}{'CPU, short':>20}{'events/s':>20}{f'CPU, {most} subscr.':>20}"
    )
    print(f"{'':36}{columns}{'p50 ms':>8}{'p99 ms':>8}{'KB each':>20}{'load':>6}")
    for server in servers:
        base = results[server, "bare"]
        for app in apps:
            runs = results[server, app]
            paced, short, flood_, cpu, kb = (f"{spread(runs, base, key):>20}" for key in RATIOS)
            p50, p99, load = (median(runs, key) for key in (f"p50_{most}", f"p99_{most}", "load"))
            paced += f"{median(runs, 'paced_p50'):8.2f}{median(runs, 'paced_p99'):8.1f}"
            print(f"{f'{app} on {server}':36}{paced}{short}{flood_}{cpu}{p50:8.1f}{p99:8.1f}{kb}{load:6.2f}")


def markdown(results, servers, apps):
    """The table for a page: one row for each system, ratios to `bare` and their spread."""
    most = max(COUNTS)
    titles = ["", "CPU for a paced event", "p50, p99", "CPU for a short stream", "flood, events/s"]
    titles += [f"CPU for a delivery, {most} subscribers", "p50, p99", "memory of an idle one", "load"]
    lines = [f"| {' | '.join(titles)} |", f"|---{'|---:' * (len(titles) - 1)}|"]
    for server in servers:
        base = results[server, "bare"]
        for app in apps:
            runs = results[server, app]
            paced, short, flood_, cpu, kb = (spread(runs, base, key).replace("-", " to ") for key in RATIOS)
            p50, p99, load = (median(runs, key) for key in (f"p50_{most}", f"p99_{most}", "load"))
            latency = f"{median(runs, 'paced_p50'):.2f}, {median(runs, 'paced_p99'):.1f} ms"
            cells = [paced, latency, short, flood_, cpu, f"{p50:.1f}, {p99:.1f} ms", kb, f"{load:.2f}"]
            lines.append(f"| {app} on {server} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"{datetime.now().astimezone():%Y-%m-%d}; {describe()}."])


def write_into(path, results, servers, apps):
    """Put the table in its place on a page, which says what of it it wants."""
    page = path.read_text()
    place = re.search(r"(<!-- figures(.*?) -->\n).*?(<!-- /figures -->)", page, re.DOTALL)
    if place is None:
        raise SystemExit(f"{path} has no <!-- figures --> ... <!-- /figures -->")
    wanted = place[2].split() or apps
    table = markdown(results, servers, [app for app in apps if app in wanted])
    path.write_text(f"{page[: place.start()]}{place[1]}{table}\n{place[3]}{page[place.end() :]}")


def describe():
    packages = (
        "sse-trio",
        "sse-starlette",
        "fastapi",
        "litestar",
        "starlette",
        "uvicorn",
        "hypercorn",
        "trio",
        "anyio",
    )
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{machine}; {versions}"


def run(args):
    results = {(server, app): [] for server in args.servers for app in args.apps}
    for number in range(args.rounds):
        for (server, app), runs in results.items():
            print(f"round {number + 1} of {args.rounds}: {app} on {server}", file=sys.stderr)
            try:
                figures = measure(app, server)
            except (RuntimeError, OSError) as exc:
                print(f"  failed: {exc}", file=sys.stderr)
                figures = None
            runs.append(figures)
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--apps", nargs="+", choices=APPS, default=[app for app in APPS if app not in RARE])
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--plots", type=Path, help="write SVG plots into this folder")
    parser.add_argument("--into", type=Path, nargs="+", default=[], help="write the table into these pages")
    args = parser.parse_args()
    args.apps = ["bare", *(app for app in args.apps if app != "bare")]
    results = run(args)
    print_table(results, args.servers, args.apps)
    for page in args.into:
        write_into(page, results, args.servers, args.apps)
    if args.plots:
        from _plots import write_plots

        write_plots(args.plots, results, args.servers, args.apps, COUNTS, describe(), median)


if __name__ == "__main__":
    main()
