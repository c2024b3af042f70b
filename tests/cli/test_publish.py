"""python -m sse_trio publish, its other name sse-trio, and --version."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import anyio
import pytest

from sse_trio.__main__ import main
from sse_trio.publisher import Publisher
from sse_trio.stores import SQLiteStore
from sse_trio.testing._store_locations import ALL, read_all

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    """A hub's file, as a server has made it."""
    path = tmp_path / "hub.sqlite"
    with Publisher(path, create=True) as publisher:
        publisher.publish("first", "x")
    return path


@pytest.fixture
def give(monkeypatch):
    """Give the command some bytes on stdin."""

    def give_bytes(data):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give_bytes


def events_of(path):
    async def read():
        async with SQLiteStore(path) as store:
            events, _ = await read_all(store, ALL, None)
        return [(str(each.id), each.topic, each.event.event, each.event.data) for each in events[1:]]

    return anyio.run(read)


def test_an_event_that_expires(path, capsys):
    """--ttl says after how many seconds the event expires."""
    assert main(["publish", str(path), "news", "hello", "--ttl", "3600"]) == 0
    assert main(["publish", str(path), "news", "too short", "--ttl", "0.001"]) == 0
    assert [event[3] for event in events_of(path)] == ["hello"]
    assert main(["publish", str(path), "news", "hello", "--ttl", "0"]) == 2
    assert "ttl must be" in capsys.readouterr().err


def test_one_event(path, capsys):
    """The data of the command line is published, and the id that the event got is shown."""
    assert main(["publish", str(path), "news", "hello", "--event", "headline"]) == 0
    out, err = capsys.readouterr()
    assert ([(out.strip(), "news", "headline", "hello")], err) == (events_of(path), "")


def test_stdin(path, capsys, give):
    """With - the event is what comes on stdin, without the last line break; with --lines, each line is one."""
    give(b"a\nb\n")
    assert main(["publish", f"sqlite:///{path}", "news", "-"]) == 0
    give("c\r\n\u00e9\n\nd".encode())
    assert main(["publish", str(path), "news", "-", "--lines"]) == 0
    assert [data for *_, data in events_of(path)] == ["a\nb", "c", "\u00e9", "", "d"]
    assert capsys.readouterr().out.split() == [id_ for id_, *_ in events_of(path)]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["PATH", "news*", "x"], "a topic to publish to must be"),
        (["PATH", "news", "x", "--event", "a\nb"], "event must"),
        (["PATH", "news", "\udcff"], "surrogate"),
        (["PATH", "news", "x", "--lines"], "--lines reads stdin"),
        (["PATH", "news", "x", "--name", "shop"], "name"),
        (["PATH.typo", "news", "x"], "there is no file"),
        (["http://example.org", "news", "x"], "store must be"),
        (["PATH", "news"], "Missing argument 'data'"),
    ],
)
def test_wrong_arguments(argv, message, path, capsys):
    """What can't be meant is exit code 2 and one line that says what is wrong; no file is made."""
    assert main(["publish", *[word.replace("PATH", str(path)) for word in argv]]) == 2
    out, err = capsys.readouterr()
    assert (out, "Traceback" in err) == ("", False)
    assert message in err
    assert events_of(path) == []
    assert [each.name for each in path.parent.glob("*.typo")] == []


def test_bytes_that_are_not_utf_8(path, capsys, give):
    """Binary data on stdin is exit code 2."""
    give(b"\xff")
    assert main(["publish", str(path), "news", "-"]) == 2
    assert "utf-8" in capsys.readouterr().err


def test_a_store_that_can_not_be_used(path, capsys):
    """A file that is no database is exit code 1 and one line."""
    path.write_bytes(b"this is no database, although it is long enough to look like one" * 10)
    for beside in path.parent.glob("*.sqlite-*"):
        beside.unlink()
    assert main(["publish", str(path), "news", "x"]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith("error: the SQLite file ")


def test_redis_without_redis_py(capsys, monkeypatch):
    """Without redis-py, publishing to Redis is exit code 3, and says what to install."""
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "sse_trio.publisher._redis", raising=False)
    assert main(["publish", "redis://localhost", "news", "x", "--name", "shop"]) == 3
    assert "pip install 'sse-trio[publisher]'" in capsys.readouterr().err


def test_ctrl_c(path, monkeypatch):
    """Ctrl+C while it waits for stdin is exit code 130."""

    class Terminal:
        buffer = property(lambda self: self)

        def read(self):
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Terminal())
    assert main(["publish", str(path), "news", "-"]) == 130


def test_version(capsys):
    """--version shows the version, and that is all."""
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"sse-trio {version('sse-trio')}\n", "")


def test_the_console_script(path, capsys, monkeypatch):
    """sse-trio is the same program, by the name that a shell finds it under, and calls itself so."""
    (line,) = [line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("sse-trio = ")]
    module, _, function = line.split('"')[1].partition(":")
    script = getattr(import_module(module), function)
    monkeypatch.setattr("sys.argv", ["/usr/bin/sse-trio", "publish", str(path), "news", "x"])
    assert script() == 0
    monkeypatch.setattr("sys.argv", ["/usr/bin/sse-trio", "publish", "--help"])
    assert script() == 0
    assert "Usage: sse-trio publish" in capsys.readouterr().out
    assert len(events_of(path)) == 1


@pytest.mark.slow
def test_lines_are_published_as_they_come(path):
    """With --lines an event is published, and its id shown, before the program that writes the lines has ended."""
    command = [sys.executable, "-m", "sse_trio", "publish", str(path), "log", "-", "--lines"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        )
        process.stdin.write(b'{"n":1}\n')
        process.stdin.flush()
        id_ = process.stdout.readline().decode().strip()
        assert [(each, json.loads(data)) for each, *_, data in events_of(path)] == [(id_, {"n": 1})]
        process.stdin.close()
        assert process.wait(20) == 0
