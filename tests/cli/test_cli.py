"""python -m sse_trio: what is shown, where, and the exit codes."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import runpy
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest
import trustme

from sse_trio.__main__ import main

STREAM = b'id: 1\nevent: price\ndata: {"a":1}\n\ndata: x\ndata: \xc3\xa9\x1b[31m\tz\n\n'
AS_TEXT = 'price #1  {"a":1}\nmessage #1  x\n    \u00e9\\x1b[31m\tz\n'
AS_JSON = [
    {"event": "price", "data": '{"a":1}', "id": "1"},
    {"event": "message", "data": "x\n\u00e9\x1b[31m\tz", "id": "1"},
]
AS_WIRE = 'event: price\nid: 1\ndata: {"a":1}\n\nid: 1\ndata: x\ndata: \u00e9\x1b[31m\tz\n\n'


def head(status="200 OK", content_type="text/event-stream", end="connection: close"):
    return f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\n{end}\r\n\r\n".encode()


NO_BODY = "content-length: 0"


def read_request(connection):
    """Return a request, with its body if it has a Content-Length."""
    request = connection.recv(65536).decode()
    length = re.search("content-length: ([0-9]+)", request, re.IGNORECASE)
    while length and len(request.partition("\r\n\r\n")[2]) < int(length[1]):
        request += connection.recv(65536).decode()
    return request


WHOLE = head(end=f"content-length: {len(STREAM)}") + STREAM


@contextmanager
def http_server(*answers, then=lambda: None):
    """Give each connection the next of the answers and close it, the last one once the client has closed it.

    `then` is called after the last answer.
    """
    requests = []

    def serve():
        for number, answer in enumerate(answers, 1):
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                requests.append(read_request(connection))
                connection.sendall(answer)
                if number == len(answers):
                    time.sleep(0.1)  # for the client to read
                    then()
                    connection.recv(1)  # until the client closes

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", requests
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def ctrl_c(signal_handlers):
    """Ctrl+C as in a terminal: a shell that runs the tests in the background has them ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def stream_file(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(STREAM)
    return str(path)


def test_decode_shows_events_for_people(stream_file, capsys):
    """Each event on a line: its name, its id and its data; further lines indented, control characters made visible."""
    assert main(["decode", stream_file]) == 0
    assert capsys.readouterr() == (AS_TEXT, "")


def test_decode_as_json(stream_file, capsys):
    """With --json, each event is an object on its own line."""
    assert main(["decode", stream_file, "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == AS_JSON


def test_decode_raw(stream_file, capsys, tmp_path):
    """With --raw, the events are a stream again, which decodes to the same events."""
    assert main(["decode", stream_file, "--raw"]) == 0
    out = capsys.readouterr().out
    assert out == AS_WIRE
    (tmp_path / "again").write_bytes(out.encode())
    assert main(["decode", str(tmp_path / "again")]) == 0
    assert capsys.readouterr().out == AS_TEXT


def test_decode_an_event_too_large(tmp_path, capsys):
    """The events before it are shown, then an error, and the exit code is 1."""
    (tmp_path / "stream").write_bytes(b"data: x\n\ndata: " + b"y" * 100)
    assert main(["decode", str(tmp_path / "stream"), "--max-event-size", "50"]) == 1
    out, err = capsys.readouterr()
    assert out == "message  x\n"
    assert err.startswith("error: the stream holds an event of more than 50 bytes")


TAIL = ["tail", "http://127.0.0.1:1/"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["decode", "no such file"], "'file': 'no such file': No such file"),
        (["decode", os.devnull, "--json", "--raw"], "--json and --raw can't be combined"),
        (["decode", os.devnull, "--max-event-size", "0"], "'--max-event-size': "),
        (["decode"], "Missing argument 'file'"),
        (["tail"], "Missing argument 'url'"),
        (["tail", "http://a:b/"], "Invalid port"),
        (["tail", "http://a..b/"], "Invalid host"),
        (["tail", f"http://{'a' * 64}/"], "Invalid host"),
        (["tail", "http://a/\udcff"], "'url': the URL must be UTF-8"),
        ([*TAIL, "-H", "no colon"], "-H: must be 'NAME: VALUE', a header in ASCII; got a line without a colon"),
        ([*TAIL, "-H", ": no name"], "a header in ASCII; got a line that begins with ''"),
        ([*TAIL, "-H", "a name: value"], "a header in ASCII; got a line that begins with 'a name'"),
        ([*TAIL, "-H", "name: va\nlue"], "a header in ASCII; got a line that begins with 'name'"),
        ([*TAIL, "-H", "name: \u00e9"], "must be 'NAME: VALUE', a header in ASCII"),
        ([*TAIL, "--json", "--raw"], "--json and --raw can't be combined"),
        (
            [*TAIL, "--idle-timeout", "-1"],
            "'--idle-timeout': must be a finite number of seconds, more than 0; got -1; leave",
        ),
        ([*TAIL, "--idle-timeout", "0"], "more than 0; got 0;"),
        ([*TAIL, "--idle-timeout", "nan"], "more than 0; got nan;"),
        ([*TAIL, "--idle-timeout", "inf"], "more than 0; got inf;"),
        ([*TAIL, "--idle-timeout", "soon"], "'--idle-timeout': "),
        ([*TAIL, "--max-event-size", "-1"], "'--max-event-size': "),
        (
            [*TAIL, "--last-event-id", "a\nb"],
            "'--last-event-id': an id must be UTF-8 without line breaks and NUL; got 'a\\nb'",
        ),
        (
            [*TAIL, "--last-event-id", "\udcff"],
            "'--last-event-id': an id must be UTF-8 without line breaks and NUL; got '\\udcff'",
        ),
        (["nonsense"], "'nonsense'"),
    ],
)
def test_wrong_arguments(argv, message, capsys):
    """An argument that makes no sense is exit code 2; the last line on stderr names it and says what is wrong."""
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.lower().startswith("error: ")
    assert message in last


@pytest.mark.parametrize(
    ("options", "line", "content_type", "body"),
    [
        (["-d", '{"a":1}'], "POST / HTTP/1.1", "application/json", '{"a":1}'),
        (["-d", "text", "-H", "Content-Type: text/plain"], "POST / HTTP/1.1", "text/plain", "text"),
        (["-X", "put", "-d", "@{file}"], "PUT / HTTP/1.1", "application/json", "of a file"),
        (["-X", "QUERY"], "QUERY / HTTP/1.1", None, ""),
    ],
)
def test_method_and_body(options, line, content_type, body, tmp_path, capsysbinary):
    """`tail` sends the method and the body that it is given, once, and shows the answer's events."""
    file = tmp_path / "body"
    file.write_text("of a file")
    options = [option.format(file=file) if option.startswith("@") else option for option in options]
    with http_server(WHOLE) as (url, requests):
        assert main(["tail", url, *options]) == 0
    (request,) = requests
    sent, _, sent_body = request.partition("\r\n\r\n")
    assert sent.splitlines()[0] == line
    assert sent_body == body
    found = re.search("content-type: (.*)", sent, re.IGNORECASE)
    assert (found and found[1].strip()) == content_type
    assert capsysbinary.readouterr().out.decode() == AS_TEXT


def test_body_from_stdin(monkeypatch, capsysbinary):
    """`-d @-` reads the body from stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"of stdin")))
    with http_server(WHOLE) as (url, requests):
        assert main(["tail", url, "-d", "@-"]) == 0
    assert requests[0].endswith("\r\n\r\nof stdin")


def test_proxy(capsysbinary):
    """With `--proxy` the proxy gets the request, with the whole URL in it."""
    with http_server(head() + STREAM, head("204 No Content", "")) as (url, requests):
        assert main(["tail", "http://example.invalid/clock", "--proxy", url]) == 0
    assert requests[0].startswith("GET http://example.invalid/clock HTTP/1.1")


def test_certificates_to_trust(tmp_path, capsysbinary):
    """With `--ca` a server is trusted whose certificate that file vouches for, and no other is."""
    authority, stranger = trustme.CA(), trustme.CA()
    for name, each in (("ca", authority), ("stranger", stranger)):
        each.cert_pem.write_to_path(tmp_path / f"{name}.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        for _ in range(2):
            connection, _ = listener.accept()
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(65536)
                tls.sendall(head() + STREAM)

    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        url = f"https://localhost:{listener.getsockname()[1]}/"
        assert main(["tail", url, "--no-reconnect", "--ca", str(tmp_path / "stranger.pem")]) == 1
        assert b"certificate" in capsysbinary.readouterr().err.lower()
        assert main(["tail", url, "--no-reconnect", "--ca", str(tmp_path / "ca.pem")]) == 0
        assert capsysbinary.readouterr().out.decode() == AS_TEXT
        thread.join()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-X", "PO ST"], "must be an HTTP method"),
        (["-d", "@/nowhere/SECRET"], "the body can't be read: No such file"),
        (["-d", "\udcff"], "the body can't be read: the text is not UTF-8"),
        (["--ca", "/nowhere/ca.pem"], "must be a file with certificates in PEM"),
        (["--proxy", "SECRET"], "must be a URL, such as"),
        (["--proxy", "gopher://SECRET"], "must be a URL, such as"),
    ],
)
def test_wrong_connections(options, message, capsys):
    """A method, a body, certificates or a proxy that can't be used are reported before anything is sent."""
    assert main([*TAIL, *options]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert message in err
    assert "SECRET" not in err


@pytest.mark.parametrize(
    "argv",
    [
        ["tail", "http://u:SECRET@a..b/"],
        ["tail", "http://u:SECRET@a:b/?SECRET"],
        ["tail", "http://u:SEC/RET@a/"],
        ["tail", "http://u:SECRET@a/\udcff"],
        [*TAIL, "-H", "authorization SECRET"],
        [*TAIL, "-H", "authorization: SECRET\n\u00e9"],
    ],
)
def test_wrong_arguments_show_no_secret(argv, capsys):
    """An error about a URL or a header doesn't quote what may be a password."""
    assert main(argv) == 2
    assert not re.search("SEC|RET", capsys.readouterr().err)


@pytest.mark.parametrize("argv", [["--help"], ["tail", "--help"], ["decode", "--help"]])
def test_help(argv, capsys):
    """--help explains the command, exit codes included, and exits with 0."""
    assert main(argv) == 0
    out = capsys.readouterr().out
    if argv == ["--help"]:
        assert all(code in " ".join(out.split()) for code in ("0, the stream", "1, it was", "2, wrong", "130, Ctrl+C"))


@pytest.mark.parametrize(("option", "expected"), [([], AS_TEXT), (["--raw"], AS_WIRE)])
def test_tail(option, expected, capsys):
    """Events come out as with decode, over reconnections, until the server says that there are no more."""
    with http_server(head() + b"retry: 1\n\n" + STREAM, head("204 No Content", "")) as (url, requests):
        assert main(["tail", url, "-H", "X-A: b: c", "--last-event-id", "0", *option]) == 0
    assert capsys.readouterr() == (expected, "")
    assert "X-A: b: c\r\n" in requests[0]
    assert "\r\nlast-event-id: 0\r\n" in requests[0].lower()
    assert "\r\nlast-event-id: 1\r\n" in requests[1].lower()


def test_tail_without_reconnecting(capsys):
    """With --no-reconnect, the end of the stream is the end."""
    with http_server(head() + STREAM, b"") as (url, requests):
        assert main(["tail", url, "--no-reconnect", "--json"]) == 0
        socket.create_connection(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))).close()
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == AS_JSON
    assert len(requests) == 2


@pytest.mark.parametrize(
    ("answer", "options", "message"),
    [
        (head("404 Not Found", end=NO_BODY), [], "answered 404 Not Found"),
        (
            head(content_type="text/html", end=NO_BODY),
            [],
            "answered with content-type 'text/html', which is not text/event-stream",
        ),
        (head(), ["--no-reconnect", "--idle-timeout", "0.5"], "no byte came for 0.5 s"),
        (head() + b"data: " + b"x" * 100, ["--max-event-size", "50"], "more than 50 bytes"),
    ],
)
def test_tail_fails(answer, options, message, capsys):
    """A final error is one line on stderr, and exit code 1."""
    with http_server(answer) as (url, _):
        assert main(["tail", url, *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@contextmanager
def run(*argv, **options):
    with subprocess.Popen([sys.executable, "-m", "sse_trio", *argv], **options) as process:
        try:
            yield process
        finally:
            process.kill()


def test_ctrl_c(capsys):
    """Ctrl+C ends it with exit code 130, and what was received has been shown."""

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    with http_server(head() + STREAM, then=interrupt) as (url, _):
        assert main(["tail", url, "--json"]) == 130
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == AS_JSON


def test_ctrl_c_in_a_process():
    """Ctrl+C ends it without a word, in the midst of a stream, with exit code 130."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with http_server(head() + STREAM) as (url, _), run("tail", url, **pipes) as process:
        assert process.stdout.readline() == AS_TEXT.splitlines(keepends=True)[0].encode()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"")


def test_ctrl_c_in_decode(monkeypatch, capsys):
    """Ctrl+C ends the decoding of stdin with exit code 130."""

    class Stdin(io.BytesIO):
        def read1(self, size):
            return super().read1(size) or signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Stdin(STREAM)))
    assert main(["decode", "-"]) == 130
    assert capsys.readouterr() == (AS_TEXT, "")


def test_ctrl_c_in_decode_in_a_process():
    """Ctrl+C also ends decoding another program's output; until then, events are shown as they come."""
    with run("decode", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(STREAM)
        process.stdin.flush()
        assert process.stdout.readline() == AS_TEXT.splitlines(keepends=True)[0].encode()
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert (process.returncode, process.stderr.read()) == (130, b"")


def test_a_closed_pipe(stream_file, monkeypatch):
    """A closed stdout ends the program normally."""
    theirs, ours = os.pipe()
    os.close(theirs)
    with os.fdopen(ours, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["decode", stream_file]) == 0


@pytest.mark.parametrize("command", ["decode", "tail"])
def test_a_reader_who_has_had_enough(command):
    """A closed pipe, as after `| head -1`, ends it without a word and with exit code 0."""
    with http_server(head() + STREAM * 50_000) if command == "tail" else _nothing() as (url, _):
        argv = ["tail", url] if command == "tail" else ["decode", "-"]
        with run(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            feeder = threading.Thread(target=_feed, args=(process.stdin,))
            feeder.start()
            assert process.stdout.readline()
            process.stdout.close()
            assert process.wait(20) == 0
            assert process.stderr.read() == b""
            feeder.join(10)


@contextmanager
def _nothing():
    yield None, None


def _feed(pipe):
    try:
        pipe.write(STREAM * 50_000)
        pipe.close()
    except BrokenPipeError:
        pass


@pytest.mark.parametrize("no_color", ["", "1"])
def test_on_a_terminal(no_color, monkeypatch):
    """A terminal has colours, unless NO_COLOR is set, and a status line that gives way to events."""
    ours, theirs = pty.openpty()
    monkeypatch.setenv("NO_COLOR", no_color)
    answers = (head() + b"retry: 100\ndata: x\n\n", head("204 No Content", ""))
    with http_server(*answers) as (url, _), os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main(["tail", url]) == 0
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    text = shown.decode()
    assert text.index("connecting") < text.index("open, connection 1") < text.index("x\r\n")
    assert text.index("x\r\n") < text.index("the stream ended; connecting again in 0.1 s")
    assert "\r\x1b[K" in text
    assert text.endswith("\x1b[K")
    assert ("\x1b[36m" in text) == (not no_color)
    assert ("\x1b[2m" in text) == (not no_color)


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: nobody has its other end open any more
        return b""


@pytest.fixture
def not_imported(monkeypatch):
    """As if the command line's modules had never been imported."""
    for name in [name for name in sys.modules if name.startswith("sse_trio._cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("sse_trio._cli", raising=False)


@pytest.mark.parametrize("missing", ["typer", "httpx"])
@pytest.mark.usefixtures("not_imported")
def test_without_the_extra(missing, monkeypatch, capsys):
    """Where a package is missing, one line says what to install, and the exit code is 3."""
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["tail", "http://test/"]) == 3
    assert capsys.readouterr() == ("", f"python -m sse_trio needs {missing}: pip install 'sse-trio[cli]'\n")


def test_as_a_module(monkeypatch, stream_file):
    """python -m sse_trio takes its arguments from the command line and ends the process with the exit code."""
    monkeypatch.setattr(sys, "argv", ["sse_trio", "decode", stream_file, "--json", "--raw"])
    with pytest.warns(RuntimeWarning, match="found in sys.modules"), pytest.raises(SystemExit) as info:
        runpy.run_module("sse_trio", run_name="__main__")
    assert info.value.code == 2


@pytest.mark.usefixtures("not_imported")
def test_a_module_of_ours_that_is_missing_is_a_bug(monkeypatch):
    """An installation that is broken is not mistaken for one without the extra."""
    monkeypatch.setitem(sys.modules, "sse_trio._cli", None)
    with pytest.raises(ModuleNotFoundError):
        main(["--help"])
