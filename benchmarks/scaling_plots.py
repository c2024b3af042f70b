# The curves of docs/beyond-one-machine.md, as SVG: what the programs of this folder printed, and the simulated storm.
#
#   python benchmarks/fanout.py uvicorn --subscribers 1000 --rate 2 >> results/lines   # and so on, for each point
#   python benchmarks/scaling_plots.py docs/plots < results/lines     # < /dev/null: the storm alone
#
# Rule 1: a point is a line of JSON that fanout.py, redis_load.py or processes.py printed. The storm is simulated here.
# Rule 2: text is grey and the background transparent, so that a plot can be read on white and on black.

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
from reconnect_storm import STEP, Storm

GREY = "#808080"
COLOURS = ("#3d8fe0", "#e0913a", "#2f9e77", "#b05fb8")
STYLE = {
    "svg.hashsalt": "sse_trio",  # the same figures give the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY),
    "legend.frameon": False,
    "savefig.transparent": True,
}
OPEN_S, READ_S = 0.001, 73e-6


def fanout(axes, lines):
    for server in ("uvicorn", "hypercorn"):
        points = sorted(
            (line["subscribers"], line["cpu_us_per_delivery"]) for line in lines if line.get("server") == server
        )
        axes.plot(*zip(*points, strict=True), "o-", label=server)
    axes.set(xscale="log", xlabel="subscribers of one process", ylabel="µs of CPU for a delivery", ylim=0)


def redis(axes, lines):
    points = sorted((line["followers"], line["redis_cpu_us_per_event"]) for line in lines if "followers" in line)
    axes.plot(*zip(*points, strict=True), "o-", label="Redis")
    axes.set(xlabel="processes that follow", ylabel="µs of Redis' CPU for an event", xlim=0, ylim=0)


def workers(axes, lines):
    for line in lines:
        if "subscribers_each" in line:
            times = [line[f"{n} workers"]["times_with_cores_of_their_own"] for n in (1, 2)]
            axes.plot((1, 2), times, "o-", label=f"{line['store']}, {line['loop']}")
    axes.plot((1, 2), (1, 2), ":", color=GREY, label="twice as much")
    axes.set(xticks=(1, 2), xlabel="workers", ylabel="deliveries for the CPU of so many cores", ylim=0)


def storm(axes, clients, processes, within):
    for seconds in (None, *within):
        simulated = Storm(clients, processes, OPEN_S, READ_S, within=seconds, horizon=330.0).run()
        at = [n * STEP for n in range(len(simulated.back_at))][::50]
        label = "without" if seconds is None else f"reconnect_within={seconds}"
        axes.plot(at, [100 * back / clients for back in simulated.back_at][::50], label=label)
    axes.set(title=f"{clients:,} clients, {processes} processes", xlabel="seconds", ylabel="% are back", ylim=(0, 103))


def write(path, draws):
    figure, axes = plt.subplots(1, len(draws), figsize=(4.2 * len(draws), 3.2), squeeze=False)
    for each, draw in zip(axes[0], draws, strict=True):
        draw(each)
        each.legend(fontsize=8)
        each.grid(color=GREY, alpha=0.25, linewidth=0.5)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    lines = [json.loads(line) for line in sys.stdin]
    plt.rcParams.update(STYLE)
    folder.mkdir(parents=True, exist_ok=True)
    if lines:
        draws = [lambda axes: fanout(axes, lines), lambda axes: workers(axes, lines), lambda axes: redis(axes, lines)]
        write(folder / "scaling.svg", draws)
    write(
        folder / "storm.svg",
        [lambda axes: storm(axes, 100_000, 8, (60,)), lambda axes: storm(axes, 1_000_000, 80, (60, 300))],
    )


if __name__ == "__main__":
    main()
