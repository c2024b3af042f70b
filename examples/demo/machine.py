# What this machine is and what it does right now, as plain values that JSON can carry. No stream in here.
#
# Rule 1: a reading never blocks. psutil is asked for what the kernel has counted so far; a rate is the difference
#         between two readings.
# Rule 2: units are in the page's hands. Here are percent, bytes, bytes per second, and the load as it is.

from __future__ import annotations

import platform
import time

import psutil

__all__ = ("Machine", "describe_machine")


def describe_machine() -> dict[str, object]:
    """What does not change while the process runs: the host's name, its system, cores and memory in bytes."""
    return {
        "host": platform.node() or "localhost",
        "system": _system(),
        "python": platform.python_version(),
        "cores": psutil.cpu_count() or 1,
        "memory": psutil.virtual_memory().total,
    }


class Machine:
    """Reads the machine's counters. The first reading's rates cover the time since the object was made."""

    def __init__(self) -> None:
        psutil.cpu_percent(percpu=True)  # psutil measures from its last call: this one is the start
        self._counters = _network_counters()

    def read(self) -> dict[str, dict[str, object]]:
        """What happened since the last reading, one entry per named event of the stream."""
        return {"cpu": _cpu(), "memory": _memory(), "network": self._network(), "load": _load()}

    def _network(self) -> dict[str, object]:
        before, self._counters = self._counters, _network_counters()
        seconds = max(self._counters["time"] - before["time"], 0.001)
        # A counter falls when an interface goes away: that is no traffic, and no negative one either.
        rates = {name: max(value - before[name], 0) / seconds for name, value in self._counters.items()}
        return {name: round(rates[name]) for name in ("received", "sent", "loopback")}


def _cpu() -> dict[str, object]:
    cores = psutil.cpu_percent(percpu=True)
    return {"cores": cores, "average": round(sum(cores) / len(cores), 1)}


def _memory() -> dict[str, object]:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    cache = getattr(memory, "cached", 0) + getattr(memory, "buffers", 0)  # not every system tells them
    return {"used": memory.total - memory.available, "cache": cache, "swap": swap.used}


def _load() -> dict[str, object]:
    one, five, fifteen = psutil.getloadavg()
    return {"one": round(one, 2), "five": round(five, 2), "fifteen": round(fifteen, 2)}


def _network_counters() -> dict[str, float]:
    interfaces = psutil.net_io_counters(pernic=True)
    loopback = [interfaces.pop(name) for name in list(interfaces) if name.lower().startswith(("lo", "loopback"))]
    return {
        "time": time.monotonic(),
        "received": sum(interface.bytes_recv for interface in interfaces.values()),
        "sent": sum(interface.bytes_sent for interface in interfaces.values()),
        "loopback": sum(interface.bytes_sent for interface in loopback),
    }


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # only Linux has that file
        return f"{platform.system()} {platform.release()}".strip()
