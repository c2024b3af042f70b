# The servers under test: each in a process of its own, on a port that the kernel chose, reporting what happens in it.
#
# Rule 1: nothing here sleeps. The port is read from the server's log, what the application reports from a FIFO;
#         both have a thread that reads and a condition that is notified.
# Rule 2: a server is ended by its pid, and whatever is left of its process group after that is killed (_lifeline.py).
# Rule 3: times are CLOCK_MONOTONIC, which is the same in every process of the machine.

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sse_trio

from ._lifeline import Lifeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

HERE = Path(__file__).parent
START_WITHIN = 30.0  # seconds; a loaded machine imports slowly
NOTHING = object()

_UVICORN = ("-m", "uvicorn", "{app}", "--port", "0", "--no-access-log")
_HYPERCORN = ("-m", "hypercorn", "--bind", "127.0.0.1:0", "--graceful-timeout", "3", "{app}")

SETUPS: dict[str, tuple[str, ...]] = {
    "uvicorn-httptools": (*_UVICORN, "--loop", "uvloop", "--http", "httptools"),
    "uvicorn-h11": (*_UVICORN, "--loop", "asyncio", "--http", "h11"),
    "hypercorn-trio": (*_HYPERCORN, "--worker-class", "trio"),
    "hypercorn-asyncio": (*_HYPERCORN, "--worker-class", "asyncio"),
    "hypercorn-serve": ("serve_on_trio.py", "{app}"),
}
EXPRESS = "+express"  # the same behind ServerBridge(express=True)
SETUPS |= {name + EXPRESS: command for name, command in SETUPS.items() if name != "hypercorn-serve"}
UVICORN = tuple(name for name in SETUPS if name.startswith("uvicorn"))
HYPERCORN = tuple(name for name in SETUPS if name.startswith("hypercorn"))
WITHOUT_EXPRESS = tuple(name for name in SETUPS if not name.endswith(EXPRESS))

_RUNNING = re.compile(r"running on https?://[^ ]*:(\d+)", re.IGNORECASE)


def patience() -> float:
    """How many times as long things may take here as on a machine with a core for each process that wants one."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1) / 1.5)


@dataclass(frozen=True)
class Report:
    """One line that the application wrote: what happened, to which stream, when, and what else it said."""

    what: str
    name: str
    at: float
    more: dict[str, Any] = field(default_factory=dict)


class Watched:
    """A list that a thread appends to and tests wait on."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._changed = threading.Condition()

    def append(self, item: object) -> None:
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait(self, find: Callable[[list[Any]], Any], within: float) -> Any:
        """What `find` made of the items as soon as it is true, or NOTHING if it is not `within` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: find(self.items), within) or NOTHING


class Server:
    """A server that runs, and what it has said so far."""

    def __init__(self, command: list[str], env: dict[str, str], folder: Path, pass_fds: Sequence[int] = ()) -> None:
        self.log, self.reports = Watched(), Watched()
        self._fifo = folder / "reports"
        os.mkfifo(self._fifo)
        # Open for writing as well: the end that stays open here keeps the reader from an end of file between workers.
        self._fifo_fd = os.open(self._fifo, os.O_RDWR)
        self.process = subprocess.Popen(
            command,
            cwd=HERE,
            env={**os.environ, **env, "SSE_E2E_REPORTS": str(self._fifo)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self._lifeline = Lifeline(self.process)
        # What it promises by the clock it promises for a machine of its own, and the suite's other processes take two
        # cores from it. Only root may put it before them.
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, self.process.pid, -10)
        assert self.process.stdout is not None
        self._threads = [
            threading.Thread(target=self._read_log, args=(self.process.stdout,)),
            threading.Thread(target=self._read_reports),
        ]
        for thread in self._threads:
            thread.start()
        self.port = 0

    def wait_started(self) -> None:
        """Return once the server accepts connections; fail if it ends or takes too long."""
        self.port = int(self._found(self.log, _find_port, START_WITHIN, "the port in its log"))

    def _read_log(self, stdout: Any) -> None:
        for line in stdout:
            self.log.append(line)
        self.log.append("(the process has closed its output)\n")

    def _read_reports(self) -> None:
        with os.fdopen(self._fifo_fd, encoding="utf-8") as lines:
            for line in lines:
                if line == "end\n":
                    return
                self.reports.append(Report(**json.loads(line)))

    def _found(self, watched: Watched, find: Callable[[list[Any]], Any], within: float, what: str) -> Any:
        found = watched.wait(find, within)
        assert found is not NOTHING, f"waited {within} s for {what}; reports {self.reports.items}; log:\n{self.text}"
        return found

    @property
    def text(self) -> str:
        """The log so far."""
        return "".join(self.log.items)

    def reported(self, what: str) -> dict[str, Report]:
        """The reports of this kind so far, by the stream's name."""
        return {report.name: report for report in self.reports.items if report.what == what}

    def wait_report(self, what: str, name: str, *, within: float = 10.0) -> Report:
        """Return the stream's report of this kind; fail if there is none `within` seconds."""

        def find(reports: list[Report]) -> Report | None:
            return next((report for report in reports if (report.what, report.name) == (what, name)), None)

        report: Report = self._found(self.reports, find, within, f"{what} of {name}")
        return report

    def wait_reports(self, what: str, names: Iterable[str], *, within: float = 10.0) -> None:
        """Return once each of these streams has made a report of this kind; fail if not `within` seconds."""
        awaited = set(names)
        self._found(self.reports, lambda _: self.reported(what).keys() >= awaited, within, f"{what} of {awaited}")

    def terminate(self) -> float:
        """Send SIGTERM to the process that the user would send it to, and say when that was."""
        self.process.send_signal(signal.SIGTERM)
        return time.monotonic()

    def wait_gone(self, within: float) -> float:
        """Return when the process was seen to have gone; fail if it is still there after `within` seconds."""
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {within} s; log:\n{self.text}") from None
        return time.monotonic()

    def stop(self) -> None:
        """End the process, and its children, one way or another."""
        try:
            if self.process.poll() is None:
                self.terminate()
                self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._lifeline.cut()
            os.write(self._fifo_fd, b"end\n")
            for thread in self._threads:
                thread.join()
            assert self.process.stdout is not None
            self.process.stdout.close()


def _find_port(lines: list[str]) -> str | None:
    assert not lines or not lines[-1].startswith("(the process"), f"the server has ended:\n{''.join(lines)}"
    return next((found[1] for line in lines if (found := _RUNNING.search(line))), None)


@contextmanager
def serve(
    setup: str, folder: Path, *extra: str, app: str = "apps:app", bridge: bool = True, **env: str
) -> Iterator[Server]:
    """Run one of SETUPS with more command-line arguments and environment, and end it afterwards."""
    command = [sys.executable, *(part.format(app=app) for part in SETUPS[setup]), *extra]
    kind = "none" if not bridge else "express" if setup.endswith(EXPRESS) else "plain"
    with serve_command(command, folder, bridge=kind, **env) as server:
        server.wait_started()
        yield server


@contextmanager
def serve_command(
    command: list[str], folder: Path, *, bridge: str = "plain", pass_fds: Sequence[int] = (), **env: str
) -> Iterator[Server]:
    """Run any server on these applications, and end it afterwards; how to tell that it accepts is the caller's."""
    folder.mkdir(parents=True, exist_ok=True)
    package = str(Path(sse_trio.__file__).parents[1])
    variables = {"PYTHONPATH": package, "PYTHONUNBUFFERED": "1", "SSE_E2E_BRIDGE": bridge, **env}
    server = Server(command, variables, folder, pass_fds)
    try:
        yield server
    finally:
        server.stop()


def wait_accepting(port: int) -> None:
    """Connect until somebody accepts; the only poll here, for there is no event."""
    until = time.monotonic() + START_WITHIN
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < until, "nobody listens"
        time.sleep(0.02)
