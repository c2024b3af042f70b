# The client against real servers, over a network that cuts, stalls and goes away; and our streams in clients of others.
#
# Rule 1: the faults of a network are made by a proxy in the test's own task tree, whose address outlives the servers.
# Rule 2: whatever happens on the way, a server that replays by id is read without a gap and without a repetition.

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import ssl
import struct
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
import trustme
from anyio.abc import SocketAttribute

from sse_trio.client import EventSourceError, open_event_source

from ._servers import serve

pytestmark = [pytest.mark.e2e, pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]

NODE = Path(__file__).parent / "node"
SETUPS = ["uvicorn-httptools", "hypercorn-trio"]
LAST = 150
NUMBERS = [(str(n), "named" if n % 2 else "message", f"number {n}\n\u2026") for n in range(1, LAST + 1)]


@pytest.fixture(scope="module", params=SETUPS)
def setup(request):
    return request.param


@pytest.fixture(scope="module")
def server(setup, tmp_path_factory):
    with serve(setup, tmp_path_factory.mktemp(setup), app="client_app:app") as server:
        yield server


class Proxy:
    """Forwards connections to a port until it has forwarded this many bytes of an answer; then it does its worst."""

    def __init__(self, port, worst, budget):
        self.target = port
        self.worst = worst
        self.budget = budget
        self.connections = 0
        self.port = 0

    async def handle(self, downstream):
        self.connections += 1
        async with downstream:
            try:
                async with (
                    await anyio.connect_tcp("127.0.0.1", self.target) as upstream,
                    anyio.create_task_group() as tasks,
                ):
                    tasks.start_soon(self.forward_requests, downstream, upstream)
                    await self.forward_answer(upstream, downstream)
                    tasks.cancel_scope.cancel()
            except OSError:
                pass  # no server at present: closed at once

    async def forward_requests(self, downstream, upstream):
        try:
            async for data in downstream:
                await upstream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    async def forward_answer(self, upstream, downstream):
        left = self.budget()
        try:
            async for data in upstream:
                await downstream.send(data[:left])
                left -= len(data)
                if left <= 0:
                    await self.worst(downstream)
                    return
        except anyio.BrokenResourceError:
            pass  # either end has gone


async def reset(downstream):
    """Close with a RST."""
    linger = struct.pack("ii", 1, 0)
    downstream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


async def close(downstream):
    """Close with a FIN in the middle of whatever it is."""


async def stall(downstream):
    """Stay connected and send nothing more."""
    await anyio.sleep_forever()


@asynccontextmanager
async def open_proxy(port, worst, budget):
    proxy = Proxy(port, worst, budget)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    proxy.port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy.handle)
        yield proxy
        tasks.cancel_scope.cancel()


async def read_numbers(port, per_stream=LAST, **options):
    """All the numbers, as (id, event, data)."""
    url = f"http://127.0.0.1:{port}/numbers/{LAST}/{per_stream}"
    with anyio.fail_after(30):
        async with http_client() as client, open_event_source(url, client=client, **options) as source:
            return [(event.id, event.event, event.data) async for event in source]


def http_client():
    """A client that doesn't load certificates, which takes longer than most of these tests."""
    return httpx.AsyncClient(verify=False)


async def test_reconnecting_to_streams_that_end(server):
    """A server that ends each stream after a few events is read to its 204."""
    assert await read_numbers(server.port, per_stream=29) == NUMBERS


@pytest.mark.parametrize("worst", [reset, close])
async def test_connections_that_are_cut(server, worst):
    """Cut by a RST or a FIN after any number of bytes, in the head too, nothing is lost and nothing comes twice."""
    rng = random.Random(7)
    async with open_proxy(server.port, worst, lambda: rng.choice([1, 200, 500, 1000, 3000])) as proxy:
        assert await read_numbers(proxy.port, retry=0.01, max_retry=0.05) == NUMBERS
        assert proxy.connections > 10


async def test_connections_that_stall(server):
    """A connection on which nothing comes any more is given up after idle_timeout, at any point."""
    rng = random.Random(7)
    async with open_proxy(server.port, stall, lambda: rng.choice([1, 4000, 8000])) as proxy:
        assert await read_numbers(proxy.port, retry=0.01, max_retry=0.05, idle_timeout=0.3) == NUMBERS
        assert proxy.connections > 2


# Each way to end on one event loop only: starting servers takes most of the time.
@pytest.mark.parametrize(("signal_number", "anyio_backend"), [(signal.SIGTERM, "trio"), (signal.SIGKILL, "asyncio")])
async def test_a_server_that_is_restarted(setup, tmp_path, signal_number):
    """A server that ends, is away for a while and comes back is read on from where it was."""
    received = []

    async def read(port):
        received.extend(await read_numbers(port, retry=0.05, max_retry=0.2))
        tasks.cancel_scope.cancel()

    with serve(setup, tmp_path / "first", app="client_app:app") as first:
        async with open_proxy(first.port, close, lambda: 10**9) as proxy, anyio.create_task_group() as tasks:
            tasks.start_soon(read, proxy.port)
            await anyio.sleep(0.1)
            first.process.send_signal(signal_number)
            await anyio.to_thread.run_sync(first.wait_gone, 10)
            assert not received
            with serve(setup, tmp_path / "second", app="client_app:app") as second:
                proxy.target = second.port
                await anyio.sleep_forever()
    assert received == NUMBERS


@pytest.mark.parametrize("status", [201, 204, 307, 404, 500])
async def test_statuses(server, status):
    """Each status over a real connection: an end, an error, or a stream somewhere else."""
    async with http_client() as client:
        url = f"http://127.0.0.1:{server.port}/status/{status}"
        opening = open_event_source(url, client=client, reconnect=False)
        if status in (204, 301, 307):
            async with opening as source:
                assert len([event async for event in source]) == (0 if status == 204 else 3)
        else:
            with pytest.raises(EventSourceError) as info:
                async with opening:
                    pytest.fail("opened")
            assert info.value.response.status_code == status
            assert info.value.response.text == "data: x\n\n"


@pytest.mark.parametrize("status", [429, 503])
async def test_statuses_that_are_tried_again(server, status):
    """An overloaded server is asked again and again."""
    attempts = []

    def note(source):
        attempts.append(source.attempt)
        if source.attempt == 3:
            source.close()

    url = f"http://127.0.0.1:{server.port}/status/{status}"
    options = {"retry": 0.01, "max_retry": 0.01, "on_state_change": note}
    async with http_client() as client, open_event_source(url, client=client, **options) as source:
        assert [event async for event in source] == []
    assert attempts == [1, 2, 3, 3]


def count_open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_cancelling_closes_the_connection(server):
    """However an iteration is cancelled, no socket stays behind."""
    rng = random.Random(7)
    await read_numbers(server.port)
    before = count_open_files()
    for _ in range(30):
        with anyio.move_on_after(rng.random() * 0.05):
            await read_numbers(server.port)
    assert count_open_files() <= before


@pytest.fixture(scope="module")
def tls():
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context, authority.issue_cert("localhost")


@pytest.fixture(scope="module")
def h2_server(tls, tmp_path_factory):
    folder = tmp_path_factory.mktemp("h2")
    tls[1].private_key_and_cert_chain_pem.write_to_path(folder / "pem")
    options = [f"--keyfile={folder / 'pem'}", f"--certfile={folder / 'pem'}"]
    with serve("hypercorn-trio", folder / "server", *options, app="client_app:app") as server:
        yield server


async def test_http2(h2_server, tls):
    """Over HTTP/2, a stream that is cancelled or left leaves the others on its connection alone."""
    url = f"https://localhost:{h2_server.port}/numbers/{LAST}/29"
    others = []

    async def read(client, *, count):
        async with open_event_source(url, client=client) as source:
            others.append([await anext(source) for _ in range(count)])

    with anyio.fail_after(30):
        async with (
            httpx.AsyncClient(http2=True, verify=tls[0]) as client,
            anyio.create_task_group() as tasks,
            open_event_source(url, client=client) as source,
        ):
            assert source.response.http_version == "HTTP/2"
            for count in range(1, 4):
                tasks.start_soon(partial(read, client, count=count))
            with anyio.move_on_after(0.02):
                await read(client, count=LAST)
            assert [(event.id, event.event, event.data) async for event in source] == NUMBERS
    assert sorted(map(len, others)) == [1, 2, 3]


# --- Our streams in clients of others, and a stream of others in ours

# On trio, httpx and what builds on it leave generators behind that trio warns of (sse_trio/client/_request.py, rule 4).
not_ours = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
WORDS = ["One", " two\n", " \u2026"]


@not_ours
async def test_the_openai_client(server):
    """The official client of OpenAI's reads our stream, to the [DONE]."""
    openai = pytest.importorskip("openai")
    url = f"http://127.0.0.1:{server.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="x") as client:
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        assert [chunk.choices[0].delta.content async for chunk in stream] == WORDS


@not_ours
async def test_the_anthropic_client(server):
    """The official client of Anthropic's reads our stream, and makes the message of it."""
    anthropic = pytest.importorskip("anthropic")
    url = f"http://127.0.0.1:{server.port}"
    question = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}
    async with (
        anthropic.AsyncAnthropic(base_url=url, api_key="x") as client,
        client.messages.stream(**question) as stream,
    ):
        assert [text async for text in stream.text_stream] == WORDS
        message = await stream.get_final_message()
    assert message.content[0].text == "".join(WORDS)
    assert message.stop_reason == "end_turn"


async def test_our_client_reads_the_same_post(server):
    """And so does ours, which doesn't ask twice."""
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    async with open_event_source(url, method="POST", json={"stream": True}) as source:
        data = [event.data async for event in source]
    assert [json.loads(chunk)["choices"][0]["delta"]["content"] for chunk in data[:-1]] == WORDS
    assert data[-1] == "[DONE]"


node = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "node_modules").exists(), reason="needs `npm ci` in tests/e2e/node"
)


@node
async def test_npms_eventsource(server):
    """npm's eventsource reads our streams, reconnects, and stops at the 204."""
    url = f"http://127.0.0.1:{server.port}/numbers/{LAST}/60"
    with anyio.fail_after(30):
        finished = await anyio.run_process(["node", str(NODE / "reader.mjs"), url])
    events = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [(event["id"], event["event"], event["data"]) for event in events] == NUMBERS


@node
async def test_better_sse():
    """Our client reads from a server that isn't ours, over ends and resets, without a gap or a repetition."""
    async with await anyio.open_process(["node", str(NODE / "server.mjs")], stderr=None) as process:
        port = int(await process.stdout.receive())
        with anyio.fail_after(30):
            async with open_event_source(f"http://127.0.0.1:{port}/") as source:
                events = [(event.id, event.event, event.json()) async for event in source]
        process.kill()
    assert events == [(str(n), "odd" if n % 2 else "message", {"n": n, "text": "\u2026\n\r\n"}) for n in range(1, 101)]
