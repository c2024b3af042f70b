# The plots of side_by_side.py, as SVG for the documentation: a paced event's latency and cost, the same of a delivery
# against the number of streams, memory.

from __future__ import annotations

from textwrap import fill

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

COLOURS = dict(
    zip(
        ("bare", "starlette", "sse_trio", "sse_trio_middleware", "sse_starlette", "fastapi", "litestar"),
        ("#8a8a8a", "#b5a642", "#5b9fe6", "#1f6fc0", "#e0913a", "#2f9e77", "#b05fb8"),
        strict=True,
    )
)


def logarithmic(axes):
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def write_plots(folder, results, servers, apps, counts, description, median):
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams["svg.hashsalt"] = "sse_trio"  # the same figures give the same file
    # Read on a light page and on a dark one: no ground of its own, and a grey that stands out from both.
    for part in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor"):
        plt.rcParams[part] = "#808080"
    most = max(counts)

    def bars(axes, server, keys):
        for offset, app in enumerate(apps):
            values = [median(results[server, app], key) for key in keys]
            places = [index + offset / (len(apps) + 1) for index in range(len(keys))]
            axes.bar(places, values, 1 / (len(apps) + 1.5), color=COLOURS[app], label=app)

    def paced(axes, server):
        bars(axes, server, ["paced_p50", "paced_p99"])
        axes.set_xticks([0.4, 1.4], ["p50", "p99"])
        logarithmic(axes)
        axes.set_ylabel("ms until a paced event is read")

    def latency(axes, server):
        bars(axes, server, [f"p50_{most}", f"p99_{most}"])
        axes.set_xticks([0.4, 1.4], ["p50", "p99"])
        logarithmic(axes)
        axes.set_ylabel(f"ms, {most} subscribers")

    def cost(axes, server):
        for app in apps:
            axes.plot(
                counts, [median(results[server, app], f"us_{n}") for n in counts], "o-", color=COLOURS[app], label=app
            )
        axes.set_xlabel("subscribers")
        logarithmic(axes)
        axes.set_ylabel("µs of CPU for each delivery")

    def memory(axes, server):
        bars(axes, server, ["kb"])
        axes.set_xticks([])
        axes.set_ylabel("KB for each idle subscriber")

    for name, draw in (("paced", paced), ("latency", latency), ("cost", cost), ("memory", memory)):
        figure, grid = plt.subplots(1, len(servers), figsize=(4 * len(servers), 3.9), squeeze=False, sharey=True)
        for axes, server in zip(grid[0], servers, strict=True):
            draw(axes, server)
            axes.set_title(server)
        figure.legend(
            *grid[0][0].get_legend_handles_labels(),
            ncols=len(apps),
            loc="lower center",
            bbox_to_anchor=(0.5, 0.06),
            frameon=False,
            fontsize=8,
        )
        figure.text(0.01, 0.01, fill(description, 150), fontsize=6)
        figure.tight_layout(rect=(0, 0.13, 1, 1))
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, transparent=True)
        plt.close(figure)
