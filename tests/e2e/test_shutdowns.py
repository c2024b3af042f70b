# C14 in real processes: however a shutdown begins, on every server, each stream hears of it and the process is gone.
#
# Rule 1: a test is one way in which a shutdown begins. It is tried on all servers that it concerns at the same time,
#         each in its own process, with idle, ticking and stalled streams in each: what takes time here is waiting.
# Rule 2: nothing begins before all servers have their streams open, and not everywhere at the same moment, so that one
#         server's work slows another one's end as little as can be. Where the machine has more to do than that, what is
#         promised by the clock is stretched by as much (patience()).
# Rule 3: a server's log may have no line above INFO, but for the few that it writes with any application (OWN_LINES).

from __future__ import annotations

import os
import re
import select
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from ._client import SMALL, Client
from ._h2_client import H2Client
from ._servers import NOTHING, START_WITHIN, Server, patience, serve_command, wait_accepting

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

GONE_WITHIN = 2.0  # seconds, of which a stalled client takes one
STREAMS = 4  # of each kind; more than there are workers
LIMIT = 40  # requests; more than what opens the streams
APART = 0.15  # seconds between the ends of two servers
LATE = 0.3  # seconds after which the endpoints that are at work at the signal get what they wait for
FAREWELL = b"event: bye\ndata: farewell\n\n"

UVICORN = (sys.executable, "-m", "uvicorn", "shutdown_app:app", "--port", "0", "--no-access-log")
HYPERCORN = (sys.executable, "-m", "hypercorn", "shutdown_app:app", "--bind", "127.0.0.1:0")
HYPERCORN += ("--graceful-timeout", "3")
GUNICORN = (sys.executable, "-m", "gunicorn", "shutdown_app:app", "--bind", "127.0.0.1:0", "--no-control-socket")


@dataclass(frozen=True)
class Setup:
    """A server, its workers, and how long its parent takes to pass a signal on, or to replace them."""

    command: tuple[str, ...]
    workers: int = 1
    parent: float = 0.0
    restart: float = 0.0
    http2: bool = False


SETUPS = {
    "uvicorn-h11": Setup((*UVICORN, "--http", "h11", "--loop", "asyncio"), restart=1.0),  # it looks at files
    "uvicorn-httptools": Setup((*UVICORN, "--http", "httptools", "--loop", "uvloop")),
    "uvicorn-workers": Setup((*UVICORN, "--workers", "2"), workers=2, parent=0.5, restart=START_WITHIN),
    "gunicorn": Setup((*GUNICORN, "--worker-class", "uvicorn_worker.UvicornWorker"), parent=1.0, restart=1.0),
    "hypercorn-asyncio": Setup((*HYPERCORN, "--worker-class", "asyncio"), http2=True),
    "hypercorn-trio": Setup((*HYPERCORN, "--worker-class", "trio"), http2=True),
    "hypercorn-asyncio-workers": Setup((*HYPERCORN, "--worker-class", "asyncio", "--workers", "2"), workers=2),
    "hypercorn-trio-workers": Setup((*HYPERCORN, "--worker-class", "trio", "--workers", "2"), workers=2),
}

_PORT = re.compile(r"(?:[Rr]unning on|Listening at:) http://[^ ]*:(\d+)")
_INFO = re.compile(r"INFO: |\[[^\]]*\] \[\d+\] \[INFO\] |\(the process has closed its output\)|$")
OWN_LINES = re.compile(
    r"WARNING: +(StatReload|WatchFiles) detected changes in"  # uvicorn's reloader, of what it is told to look for
)


@dataclass
class Running:
    """A server of a row, its workers, and who is connected to it."""

    name: str
    server: Server
    workers: dict[int, int]  # a pidfd for each pid
    reload: Callable[[], None]
    opened: dict[str, Client] = field(default_factory=dict)
    late: dict[str, Client] = field(default_factory=dict)
    stalled: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)  # of all streams that have a producer
    in_order: bool = True  # whether its workers go through the application's lifespan
    http2: H2Client | None = None
    http2_streams: dict[str, int] = field(default_factory=dict)


# --- the ways in which a shutdown begins; each says when its workers have heard of it at the latest


def terminate(running: Running) -> float:
    """SIGTERM to the process that a user would send it to."""
    return running.server.terminate() + SETUPS[running.name].parent


def terminate_all(running: Running) -> float:
    """SIGTERM to all of its processes, as systemd does."""
    asked = time.monotonic()
    # A worker of hypercorn's dies of the signal, soon after its streams, unless its parent is quick to tell it more.
    running.in_order = not running.name.startswith("hypercorn")
    os.killpg(running.server.process.pid, signal.SIGTERM)
    return asked


def terminate_worker(running: Running) -> float:
    """SIGTERM to the one worker, and not to its parent."""
    asked = time.monotonic()
    [pid] = running.workers
    running.in_order = running.name == "gunicorn"  # hypercorn's die of the signal, though not before their streams
    os.kill(pid, signal.SIGTERM)
    return asked


def terminate_twice(running: Running) -> float:
    """A second SIGTERM, before the first one has had its effect and after it was noticed."""
    asked = terminate(running)
    running.server.terminate()
    running.opened.pop("idle-0").read_until(b"event: bye\n")
    running.server.terminate()
    return asked


def reach_max_requests(running: Running) -> float:
    """Complete requests until the server has had enough of them."""
    asked = 0.0
    try:
        for _ in range(LIMIT + 1):
            with Client(running.server.port) as client:
                asked = time.monotonic()
                client.get("/quick")
                client.read_to_end()
    except (ConnectionError, EOFError):
        pass  # it is going already
    return asked


def hang_up(running: Running) -> float:
    """SIGHUP, or for uvicorn's own reloader a file that has changed."""
    running.reload()
    return time.monotonic() + SETUPS[running.name].restart


# --- a row


def run_row(
    begin: Callable[[Running], float],
    names: dict[str, tuple[str, ...]],
    folder: Path,
    *,
    streams: bool = True,
    late: bool = False,
    replaced: Collection[str] = (),
) -> None:
    """Begin a shutdown on all these servers, each with these extra arguments; raise what is wrong."""
    ready = threading.Barrier(len(names))

    def run(name: str, extra: tuple[str, ...]) -> str | None:
        try:
            with start(name, extra, folder / name) as running, ExitStack() as clients:
                if streams:
                    open_streams(running, clients)
                if late:
                    open_late(running, clients)
                ready.wait(2 * START_WITHIN)
                time.sleep(APART * [*names].index(name))
                check_end(running, begin(running), replaced=name in replaced)
        except threading.BrokenBarrierError:
            return None  # another one's fault
        except BaseException as exc:  # shown below, with those of the others
            ready.abort()
            return f"{name}: {type(exc).__name__}: {exc}"
        return None

    with ThreadPoolExecutor(len(names)) as threads:
        failed = [wrong for wrong in threads.map(run, names.keys(), names.values()) if wrong]
    assert not failed, "\n\n".join(failed)


@contextmanager
def start(name: str, extra: tuple[str, ...], folder: Path) -> Iterator[Running]:
    """Run a server until it has accepted its shutdown."""
    setup = SETUPS[name]
    watched = folder / "watched"
    watched.mkdir(parents=True)
    (watched / "changed.py").touch()
    command = [part.format(folder=watched) for part in (*setup.command, *extra)]
    with serve_command(command, folder) as server, ExitStack() as stack:
        wait_workers(server, setup.workers)
        server.port = port_in(server, _PORT)
        wait_accepting(server.port)  # a worker has said that it has started before it listens
        workers = {int(pid): os.pidfd_open(int(pid)) for pid in server.reported("started")}
        for pidfd in workers.values():
            stack.callback(os.close, pidfd)

        def reload() -> None:
            if "--reload" in extra:
                os.utime(watched / "changed.py", (time.time() + 10,) * 2)
            else:
                server.process.send_signal(signal.SIGHUP)

        yield Running(name, server, workers, reload)


def wait_workers(server: Server, count: int) -> None:
    """Return once this many workers have started, one after another."""
    found = server.reports.wait(lambda _: len(server.reported("started")) >= count, START_WITHIN)
    assert found is not NOTHING, server.text


def port_in(server: Server, line: re.Pattern[str]) -> int:
    """The port that the server has said it listens on."""
    found = server.log.wait(lambda lines: next(filter(None, map(line.search, lines)), None), START_WITHIN)
    assert found is not NOTHING, server.text
    return int(found[1])


def open_streams(running: Running, clients: ExitStack) -> None:
    """Open idle, ticking and stalled streams, and return once each is what it is."""
    kinds = [f"{producer}-{n}" for producer in ("idle", "ticks") for n in range(STREAMS)]
    for name in kinds:
        running.opened[name] = client = clients.enter_context(Client(running.server.port))
        client.get(f"/{name.partition('-')[0]}?name={name}")
        client.read_until(b"data: ")
    # Of several workers only one has a stalled stream: another one has ended a second before it.
    for name in ("stalled-0", "stalled-1") if SETUPS[running.name].workers == 1 else ("stalled-0",):
        client = clients.enter_context(Client(running.server.port, receive_buffer=SMALL))
        client.get(f"/flood?name={name}")
        running.stalled.add(name)
    if SETUPS[running.name].http2:
        open_http2(running, clients, kinds)
    running.server.wait_reports("stuck", running.stalled)
    running.names = {*running.opened, *running.http2_streams, *running.stalled}


def open_http2(running: Running, clients: ExitStack, kinds: list[str]) -> None:
    """Open as many in one HTTP/2 connection, and one that is stalled by flow control in another."""
    running.http2 = together = clients.enter_context(H2Client(running.server.port, None))
    for name in kinds:
        running.http2_streams[f"h2-{name}"] = together.get(f"/{name.partition('-')[0]}?name=h2-{name}")
    numbers = running.http2_streams.values()
    together.pump_until(lambda: all(b"data: " in together.body[number] for number in numbers), "the first events")
    alone = clients.enter_context(H2Client(running.server.port, None))
    alone.stalled.add(alone.get("/flood?name=h2-stalled"))
    running.stalled.add("h2-stalled")


def open_late(running: Running, clients: ExitStack) -> None:
    """Ask for streams, and return while their endpoints are at work."""
    for name in ("late-idle", "late-ticks"):
        running.late[name] = client = clients.enter_context(Client(running.server.port))
        client.send("POST", f"/late/{name.partition('-')[2]}?name={name}", "content-length: 6", body=b"up")
    running.server.wait_reports("at work", running.late)


def check_end(running: Running, asked: float, *, replaced: bool) -> None:
    """See every stream end as it should, the workers go in time, and nothing in the log."""
    server = running.server
    for client in running.opened.values():
        assert client.read_to_end().endswith(FAREWELL)
    if running.http2 is not None:
        together, numbers = running.http2, running.http2_streams.values()
        together.pump_until(lambda: together.ended.issuperset(numbers), "the ends of the HTTP/2 streams")
        assert all(together.body[number].endswith(FAREWELL) for number in numbers)
    if running.late:
        time.sleep(max(0.0, asked + LATE - time.monotonic()))
    for client in running.late.values():
        client.socket.sendall(b"load")
        client.read_head()
        assert client.read_to_end() == FAREWELL
    for pidfd in running.workers.values():
        wait_readable(pidfd, 10)
    seconds = time.monotonic() - asked
    assert seconds < GONE_WITHIN * patience(), f"gone after {seconds} s"
    server.wait_reports("cleaned", running.names)
    server.wait_reports("closed", running.names)
    assert {report.more["reason"] for report in server.reported("closed").values()} <= {"shutdown"}
    if running.in_order:
        server.wait_reports("stopped", map(str, running.workers))
    if replaced:
        check_replaced(running)
    assert_quiet(server)


def wait_readable(fd: int, within: float) -> None:
    """Return when a pidfd's process has ended."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(within * 1000), f"still there after {within} s"


def check_replaced(running: Running) -> None:
    """See that there is a worker again, which opens streams."""
    server = running.server
    wait_workers(server, 2 * len(running.workers))
    with Client(server.port) as client:
        client.get("/count?name=next")
        assert client.read_to_end().count(b"data: ") == 3


def assert_quiet(server: Server) -> None:
    """See that the server has logged nothing above INFO."""
    loud = [line for line in server.log.items if not _INFO.match(line) and not OWN_LINES.match(line)]
    assert not loud, "".join(server.log.items)


# --- the rows

EACH: dict[str, tuple[str, ...]] = dict.fromkeys(SETUPS, ())
# A row takes the set-ups that differ in what it is about. What a parent does with a signal, it does for one worker as
# for two: where that is all that matters, one of both is enough.
WITH_PARENT = ("uvicorn-workers", "gunicorn", "hypercorn-asyncio-workers", "hypercorn-trio")


@pytest.fixture(autouse=True)
def every_server() -> None:
    """Without one of them there is no row."""
    for package in ("uvicorn", "httptools", "uvloop", "uvicorn_worker", "hypercorn"):
        pytest.importorskip(package)


def test_signal_before_the_first_stream(tmp_path: Path) -> None:
    """Streams that open after the signal, the first of all, end at once."""
    # (With several workers hypercorn ends those that have no stream yet when the first one has ended.)
    each = {name: () for name in EACH if not name.startswith("hypercorn") or not name.endswith("workers")}
    run_row(terminate, each, tmp_path, streams=False, late=True)


def test_signal(tmp_path: Path) -> None:
    """Streams that are open, and those that open after the signal, end."""
    run_row(terminate, EACH, tmp_path, late=True)


def test_signal_to_every_process(tmp_path: Path) -> None:
    """Workers that get the signal, too, end their streams as well as those that only their parent tells."""
    run_row(terminate_all, dict.fromkeys(WITH_PARENT, ()), tmp_path)


def test_signal_to_a_worker(tmp_path: Path) -> None:
    """A worker that is ended alone ends its streams."""
    run_row(terminate_worker, {"gunicorn": (), "hypercorn-asyncio": (), "hypercorn-trio": ()}, tmp_path)


def test_signal_twice(tmp_path: Path) -> None:
    """Another signal changes nothing."""
    run_row(terminate_twice, dict.fromkeys(("uvicorn-h11", "uvicorn-httptools", *WITH_PARENT), ()), tmp_path)


def test_max_requests(tmp_path: Path) -> None:
    """A server that has served as many requests as it may ends its streams, and goes."""
    limits = {
        "uvicorn-h11": ("--limit-max-requests", str(LIMIT)),
        "uvicorn-httptools": ("--limit-max-requests", str(LIMIT)),
        "gunicorn": ("--max-requests", str(LIMIT)),
        "hypercorn-asyncio": ("--max-requests", str(LIMIT)),
        "hypercorn-trio": ("--max-requests", str(LIMIT)),
    }
    run_row(reach_max_requests, limits, tmp_path, replaced=("gunicorn", "hypercorn-asyncio", "hypercorn-trio"))


def test_reload(tmp_path: Path) -> None:
    """A worker that is replaced ends its streams, and the next one serves."""
    reloading = {"uvicorn-h11": ("--reload", "--reload-dir", "{folder}"), **dict.fromkeys(WITH_PARENT, ())}
    run_row(hang_up, reloading, tmp_path, replaced=reloading)


def test_should_exit(tmp_path: Path) -> None:
    """A program that stops one of two servers, in another thread than the main one, ends the streams of that one."""
    with serve_command([sys.executable, "serve_two.py"], tmp_path) as server, ExitStack() as stack:
        ports = server.log.wait(two_ports, START_WITHIN)
        assert ports is not NOTHING, server.text
        first, second = (open_two(stack, port, str(number)) for number, port in enumerate(ports))
        asked = leave(ports[1], ports[0])
        assert all(client.read_to_end().endswith(FAREWELL) for client in first)
        assert time.monotonic() - asked < GONE_WITHIN * patience()
        second[1].read_until(b"data: ")
        second[1].read_until(b"data: ")  # it goes on
        server.wait_reports("closed", ("idle-0", "ticks-0"))
        assert not {"idle-1", "ticks-1", "stalled-1"} & server.reported("closed").keys()
        asked = leave(ports[1], ports[1])
        assert all(client.read_to_end().endswith(FAREWELL) for client in second)
        assert server.wait_gone(10) - asked < GONE_WITHIN * patience()
        server.wait_reports("cleaned", ("idle-0", "ticks-0", "idle-1", "ticks-1", "stalled-0", "stalled-1"))
        assert_quiet(server)


def two_ports(lines: list[str]) -> list[int] | None:
    """The ports of both servers."""
    found = [int(match[1]) for match in map(_PORT.search, lines) if match]
    return found if len(found) == 2 else None


def open_two(stack: ExitStack, port: int, name: str) -> list[Client]:
    """An idle stream and a ticking one, and a stalled one that is not returned."""
    stalled = stack.enter_context(Client(port, receive_buffer=SMALL))
    stalled.get(f"/flood?name=stalled-{name}")
    opened = [stack.enter_context(Client(port)) for _ in range(2)]
    for producer, client in zip(("idle", "ticks"), opened, strict=True):
        client.get(f"/{producer}?name={producer}-{name}")
        client.read_until(b"data: ")
    return opened


def leave(port: int, leaving: int) -> float:
    """Have the server at one port stopped by its program, asked at another, and say when."""
    with Client(port) as client:
        assert client.get(f"/leave/{leaving}").status == 200
        return time.monotonic()
