# Compressed streams and the clients that people have: each event is there before the next one is published.
#
# Rule 1: one server for all, on trio with direct writes, which is the longest way that a piece can go.
# Rule 2: in lockstep. A client that held back an event until there is more to decode would never see the next.

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.request import urlopen

import anyio
import httpx
import pytest

from sse_trio.client import open_event_source

from ._browser import PageServer, wait_true
from ._proxies import serve_proxy

pytestmark = pytest.mark.e2e

APPS = Path(__file__).parent / "apps"
EVENTS = 12
CODINGS = ("zstd", "br", "gzip")

each_coding = pytest.mark.parametrize("coding", CODINGS)
each_kind = pytest.mark.parametrize("kind", ["shared", "own"])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    command = ("-m", "hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:{port}", "compress_app:app")
    with PageServer(*command, cwd=APPS, log=tmp_path_factory.mktemp("compress") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def topics():
    """Names that nobody else has."""
    return (f"topic{n}" for n in count())


def publish(server, topic, data):
    with urlopen(f"{server.url}publish/{topic}/{data}") as answer:
        assert answer.read() == b"published"


# --- clients in Python


def read_in_lockstep(server, topic, url, coding):
    """Read events with httpx, and publish each when the one before it has come; wait for a ping half way."""
    text = ""
    with httpx.stream("GET", url, headers={"accept-encoding": coding}) as answer:
        assert answer.headers.get_list("content-encoding") == [coding]
        assert answer.headers["vary"] == "Accept-Encoding"
        chunks = answer.iter_text()
        for n in range(EVENTS):
            awaited = f"data: event{n - 1}\n" if n else "data: hello\n"
            while awaited not in text:
                text += next(chunks)
            if n == EVENTS // 2:
                seen = len(text)
                while ": ping" not in text[seen:]:
                    text += next(chunks)
            publish(server, topic, f"event{n}")


@each_kind
@each_coding
def test_httpx(server, topics, coding, kind):
    """httpx decodes each event when it was sent, and each ping, while the stream goes on."""
    topic = next(topics)
    read_in_lockstep(server, topic, f"{server.url}{kind}/{topic}?compress={coding}", coding)


# What makes each proxy compress event streams by itself.
COMPRESSING = {
    "nginx": {
        "proxy_read_timeout 60s": "gzip on; gzip_types text/event-stream; gzip_min_length 0; proxy_read_timeout 60s"
    },
    "haproxy": {
        "timeout server 60s": "timeout server 60s\n    compression algo gzip\n    compression type text/event-stream"
    },
}


@pytest.mark.parametrize("name", COMPRESSING)
def test_a_proxy_that_compresses(server, topics, name, certificate, tmp_path):
    """nginx and HAProxy leave alone what is compressed, and pass on each event, where they compress by themselves."""
    topic = next(topics)
    with serve_proxy(name, tmp_path, server.port, certificate, COMPRESSING[name]) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/shared/{topic}?compress=gzip"
        read_in_lockstep(server, topic, url, "gzip")
        text_url = url.replace("gzip", "br")
        with httpx.stream("GET", text_url, headers={"accept-encoding": "gzip"}) as answer:
            assert answer.headers["content-encoding"] == "gzip"  # the proxy's own: it does compress what is text


@pytest.mark.anyio
@pytest.mark.usefixtures("real_clock")
async def test_our_client_asks_for_what_it_can_decode(server, topics):
    """`open_event_source` gets a compressed stream without being told to, event by event."""
    topic = next(topics)
    encodings = []

    async def note(response):
        encodings.append(response.headers["content-encoding"])

    async with (
        httpx.AsyncClient(event_hooks={"response": [note]}) as client,
        open_event_source(f"{server.url}shared/{topic}?compress=zstd,br,gzip", client=client) as source,
    ):
        for n in range(EVENTS):
            assert (await anext(source)).data == (f"event{n - 1}" if n else "hello")
            await anyio.to_thread.run_sync(publish, server, topic, f"event{n}")
    assert encodings == ["zstd"]


# --- curl


@contextmanager
def curl(url):
    command = shutil.which("curl")
    if command is None:
        pytest.skip("curl is not installed")
    process = subprocess.Popen([command, "-sN", "-i", "--compressed", url], stdout=subprocess.PIPE)
    try:
        yield process.stdout
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@each_kind
@each_coding
def test_curl(server, topics, coding, kind):
    """`curl --compressed -N` shows each event when it was sent."""
    topic = next(topics)
    with curl(f"{server.url}{kind}/{topic}?compress={coding}") as output:
        lines = [line.decode().strip().lower() for line in iter(output.readline, b"\r\n")]
        assert f"content-encoding: {coding}" in lines
        for n in range(EVENTS):
            awaited = f"data: event{n - 1}\n" if n else "data: hello\n"
            while output.readline() != awaited.encode():
                pass
            publish(server, topic, f"event{n}")


# --- Chromium


OPEN = """path => {
  window.texts = [];
  const source = new EventSource(path);
  source.onopen = () => texts.push("open");
  source.onmessage = event => texts.push(event.data);
  source.onerror = () => texts.push("error");
}"""


@pytest.mark.browser
def test_chromium(server, topics, open_page):
    """An EventSource in Chromium dispatches each event when it was sent, in each coding, shared or not."""
    page = open_page(server)
    answers = {}
    page.on("response", lambda answer: answers.update({answer.url: answer.headers.get("content-encoding")}))
    for coding in CODINGS:
        for kind in ("shared", "own"):
            topic = next(topics)
            path = f"{kind}/{topic}?compress={coding}"
            page.evaluate(OPEN, path)
            expected = ["open", "hello"]
            for n in range(EVENTS):
                wait_true(page, f"texts.length >= {len(expected)}")
                publish(server, topic, f"event{n}")
                expected.append(f"event{n}")
            wait_true(page, f"texts.length >= {len(expected)}")
            assert page.evaluate("texts") == expected
            assert answers[server.url + path] == coding
