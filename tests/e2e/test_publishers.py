# Who publishes without an event loop, as processes: the programs of examples/publishers, and the languages of
# docs/publishing.md. A subscriber of a server in another process gets what they publish.

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import sse_trio

from ._client import Client
from ._servers import serve_command

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "publishers"
PACKAGE_AT = str(Path(sse_trio.__file__).parents[1])
TOKEN = "secret"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture
def environment(tmp_path):
    path = os.pathsep.join(filter(None, [PACKAGE_AT, os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "STORE": str(tmp_path / "hub.sqlite"), "TOKEN": TOKEN, "PORT": "0"}


@pytest.fixture
def server(tmp_path, environment):
    """The server of the examples."""
    with serve_command([sys.executable, str(EXAMPLES / "server.py")], tmp_path / "server", **environment) as server:
        server.wait_started()
        yield server


@contextmanager
def subscriber(server, topic):
    with Client(server.port) as client:
        assert client.get(f"/events/{topic}").status == 200
        client.read_until(b"id: ")  # its position: it is connected
        yield client


def run(command, environment, folder, **options):
    done = subprocess.run(
        command, env={**os.environ, **environment}, cwd=folder, check=True, capture_output=True, timeout=120, **options
    )
    return done.stdout.decode()


@contextmanager
def started(command, environment, folder):
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_a_celery_worker(server, environment, tmp_path):
    """What tasks of a real Celery worker publish, whose pool has forked, reaches a subscriber, in order."""
    pytest.importorskip("celery", reason="Celery is not installed")
    environment["BROKER_FOLDER"] = str(tmp_path / "broker")
    celery = [sys.executable, "-m", "celery", "--workdir", str(EXAMPLES), "-A", "celery_tasks"]
    worker = [*celery, "worker", "--pool", "prefork", "--concurrency", "2", "--without-mingle", "--without-gossip"]
    with subscriber(server, "videos/7") as client, started(worker, environment, tmp_path):
        for _ in range(2):  # the same task again, as if its worker had been killed
            run([*celery, "call", "celery_tasks.convert", "--args", "[7]"], environment, tmp_path)
        seen = client.read_until(b"data: 100\n\n")
    assert re.findall(rb"data: (\d+)", seen) == [b"0", b"50", b"100"]


def test_a_django_view(server, environment, tmp_path):
    """What a Django view under WSGI publishes reaches a subscriber."""
    pytest.importorskip("django", reason="Django is not installed")
    command = [sys.executable, str(EXAMPLES / "django_view.py")]
    with subscriber(server, "videos/7") as client, started(command, environment, tmp_path) as process:
        port = re.search(rb"running on http://127.0.0.1:(\d+)", process.stdout.readline())[1].decode()
        with urlopen(Request(f"http://127.0.0.1:{port}/videos/7/like", method="POST"), timeout=30) as answer:
            assert answer.status == 204
        assert b'event: like\ndata: {"likes":1}\n\n' in client.read_until(b"\n\n")


def test_a_script(server, environment, tmp_path):
    """What a plain script publishes reaches a subscriber, under the id that the script has shown."""
    with subscriber(server, "disk") as client:
        id_ = run([sys.executable, str(EXAMPLES / "script.py")], environment, tmp_path).strip()
        assert f"id: {id_}\ndata: {{".encode() in b"id: " + client.read_until(b'"total":').partition(b"id: ")[2]


def test_processes(server, environment, tmp_path):
    """What the processes of a pool publish reaches a subscriber, between what their parent publishes."""
    with subscriber(server, "squares") as client:
        assert run([sys.executable, str(EXAMPLES / "processes.py")], environment, tmp_path) == "140\n"
        seen = client.read_until(b"event: end\n")
    numbers = re.findall(rb"data: (\d+)", seen)
    assert numbers[0] == b"8"
    assert sorted(map(int, numbers[1:])) == [n * n for n in range(8)]


LANGUAGES = {
    "shell": (["bash", "-eu"], "publish.sh", ["from curl", "from curl & a form"]),
    "javascript": (["node"], "publish.mjs", ['{"from":"Node"}']),
    "go": (["go", "run"], "publish.go", ["from Go", "and again"]),
    "php": (["php"], "publish.php", ["from PHP"]),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_another_language(language, server, environment, tmp_path):
    """The program of the page in this language publishes, and a subscriber gets it."""
    command, name, data = LANGUAGES[language]
    for program in (command[0], *(["curl"] if language == "shell" else [])):
        if shutil.which(program) is None:
            pytest.skip(f"not applicable: there is no {program}")
    page = (ROOT / "docs" / "publishing.md").read_text()
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    program = tmp_path / name
    program.write_text(block.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"))
    with subscriber(server, "news") as client:
        assert "-" in run([*command, str(program)], environment, tmp_path), "the answer has an id"
        client.read_until(f"data: {data[-1]}\n\n".encode())
    with Client(server.port) as client:  # who comes later, from the beginning
        client.get("/events/news", "last-event-id: 0-0")
        assert [f"data: {each}".encode() for each in data] == re.findall(
            rb"^(data: (?!\{\"after).*)$", client.read_until(f"data: {data[-1]}\n\n".encode()), re.MULTILINE
        )
