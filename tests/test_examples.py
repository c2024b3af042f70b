# Every example works: in memory, on each event loop that it is for, and as the process that its first comment starts.
#
# Rule 1: an example has an `app`, and serves it on $PORT when it is run. A file in examples/ without a case here fails.
# Rule 2: in memory the first events are exact. As a process it is enough that they come, over a real socket, and that
#         the process is gone within 2 s of SIGINT or SIGTERM with the stream open, and the stream ended cleanly.

from __future__ import annotations

import dataclasses
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx
import pytest

import sse_trio
from sse_trio import CloseReason
from sse_trio.testing import open_test_stream, virtual_backend

EXAMPLES = Path(__file__).parent.parent / "examples"
PACKAGE_AT = str(Path(sse_trio.__file__).parent.parent)  # an example's process tests what this one tests
PROGRAMS = sorted(path for path in EXAMPLES.glob("*.py") if not path.name.startswith("_"))
SECONDS_TO_EXIT = 2.0


@dataclasses.dataclass(frozen=True)
class Case:
    """How to look at an example: what to ask it for, and what it then sends."""

    path: str
    events: list[tuple[str, str]]  # type and data of the first ones; a data of "*" stands for any
    json: object = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    backends: tuple[str, ...] = ("asyncio", "trio")
    fails: bool = False  # after those events
    real_clock: bool = False  # threads know no virtual time

    @property
    def method(self) -> str:
        return "GET" if self.json is None else "POST"


CASES = {
    "cleanup_with_shield": Case("/rows", [("message", "row 0"), ("message", "row 1")]),
    "custom_ping": Case("/quiet", [("message", "hello"), ("ping", "*"), ("ping", "*")]),
    "errors_and_status_codes": Case(
        "/jobs/1",
        [
            ("progress", "fetched"),
            ("progress", "unpacked"),
            ("progress", "checked"),
            ("failed", "the job failed; try again later"),
        ],
        fails=True,
    ),
    "explicit_pair": Case("/desk", [("*", "*"), ("*", "*")]),
    "fanout_proxy_headers": Case("/scores", [("score", "0 : 0"), ("score", "1 : 0"), ("score", "2 : 1")]),
    "fastapi_app": Case("/rooms/lobby", [("message", "*")], headers={"last-event-id": "41"}),
    "graceful_shutdown": Case("/batches", [("part", f"batch 0, part {n}") for n in range(3)]),
    "llm_tokens": Case(
        "/v1/completions",
        [("message", '{"choices":[{"index":0,"text":"You "}]}')],
        json={"prompt": "Why?"},
    ),
    "pipeline": Case("/earthquakes/large", [("message", "*"), ("message", "*")]),
    "quickstart_asyncio": Case("/clock", [("message", "tick 0"), ("message", "tick 1")], backends=("asyncio",)),
    "quickstart_trio": Case("/clock", [("message", "tick 0"), ("message", "tick 1")], backends=("trio",)),
    "send_timeout": Case("/flood", [("message", "*"), ("message", "*")]),
    "threads": Case("/lines", [("message", "line 1"), ("message", "line 2")], real_clock=True),
}


@pytest.fixture
def load(monkeypatch):
    """Import an example as its own directory would, freshly for each test."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def load_example(name):
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # where FastAPI looks names in annotations up
        spec.loader.exec_module(module)
        return module

    return load_example


def matches(case, received):
    """Whether the events are those of the case."""
    return [
        (event if expected[0] != "*" else "*", data if expected[1] != "*" else "*")
        for (event, data), expected in zip(received, case.events, strict=True)
    ] == case.events


def test_every_example_has_a_case():
    """An example that nobody runs is a bug."""
    assert {path.stem for path in PROGRAMS} == set(CASES)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_an_example_opens_with_what_it_shows_and_how_to_run_it(path):
    """The first line says what the example shows, and the comment how to start it."""
    head = path.read_text(encoding="utf-8").partition("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert f"python examples/{path.name}" in head


# --- in memory


async def receive_events(stream, case):
    return [(event.event, event.data) for event in [await stream.receive() for _ in case.events]]


@pytest.fixture
def anyio_backend(request):
    """The loop that the parametrisation names, with virtual time where the example allows it."""
    backend, real_clock = request.param
    return backend if real_clock else virtual_backend(backend)


ON_EACH_LOOP = [
    pytest.param(name, (backend, case.real_clock), id=f"{name}-{backend}")
    for name, case in CASES.items()
    for backend in case.backends
]


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "anyio_backend"), ON_EACH_LOOP, indirect=["anyio_backend"])
async def test_its_stream_in_memory(name, load):
    """The example sends what it says, and its stream ends in one of the orderly ways at a shutdown."""
    await check_in_memory(CASES[name], load(name).app)


async def check_in_memory(case, app):
    json = {} if case.json is None else {"json": case.json}
    opened = open_test_stream(app, case.path, method=case.method, headers=case.headers, **json)
    with pytest.raises(RuntimeError) if case.fails else nullcontext():
        async with opened as stream:
            assert stream.status_code == 200
            assert matches(case, await receive_events(stream, case))
            if not case.fails:
                stream.request_shutdown()
            await stream.wait_closed()
    assert stream.close_reason is (CloseReason.FAILED if case.fails else CloseReason.SHUTDOWN)


# --- as a process


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(name, tmp_path, **environment):
    """Run an example as its first comment says and give the URL it serves; kill what is left of it."""
    port = free_port()
    env = {**os.environ, "PYTHONPATH": PACKAGE_AT, "PORT": str(port), **environment}
    with (tmp_path / "output").open("wb") as output:
        command = [sys.executable, str(EXAMPLES / f"{name}.py")]
        process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until_listening(port, process, tmp_path / "output")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wait_until_listening(port, process, output, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, output.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing listens after {seconds} s: {output.read_text()}")


def run_and_signal(case, name, tmp_path, number, **environment):
    with running(name, tmp_path, **environment) as (process, url):
        json = {} if case.json is None else {"json": case.json}
        with httpx.stream(case.method, url + case.path, timeout=10, trust_env=False, **json) as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            chunks = response.iter_bytes()
            assert next(chunks)
            process.send_signal(number)
            asked = time.monotonic()
            for _ in chunks:  # until the final chunk: httpx raises if the body is cut off
                pass
        process.wait(SECONDS_TO_EXIT - (time.monotonic() - asked))
    assert "Traceback" not in (tmp_path / "output").read_text()


@pytest.mark.e2e
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.fails])
def test_its_process_ends_at_sigterm_with_a_stream_open(name, tmp_path):
    """The stream of a running example ends cleanly at SIGTERM, and the process is gone within 2 s."""
    run_and_signal(CASES[name], name, tmp_path, signal.SIGTERM)


@pytest.mark.e2e
@pytest.mark.parametrize(("name", "server"), [("explicit_pair", "uvicorn"), ("explicit_pair", "hypercorn")])
def test_its_process_ends_at_ctrl_c(name, server, tmp_path):
    """The same with Ctrl+C, and with the other server."""
    run_and_signal(CASES[name], name, tmp_path, signal.SIGINT, SERVER=server)


@pytest.mark.e2e
@pytest.mark.parametrize(("job", "status"), [("2", 500), ("3", 404)])
def test_a_producer_that_fails_first_decides_the_status(job, status, tmp_path):
    """What examples/errors_and_status_codes.py says of its status codes is so, on a real server."""
    with running("errors_and_status_codes", tmp_path) as (_, url):
        assert httpx.get(f"{url}/jobs/{job}", timeout=10, trust_env=False).status_code == status
