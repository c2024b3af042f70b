# A log-out with several workers: the streams of this user end in all of them, and nobody else's.

from __future__ import annotations

import select
import time
from contextlib import ExitStack, contextmanager
from urllib.request import Request, urlopen

import pytest

from sse_trio.publisher import Publisher

from ._client import Client
from ._servers import serve

pytestmark = pytest.mark.e2e

SETUPS = ("uvicorn-h11", "hypercorn-trio")
WITHIN = 0.2  # seconds


@contextmanager
def two_workers(setup, folder):
    """Run two processes on one store."""
    store = str(folder / "hub.sqlite")
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serve(setup, folder / str(n), app="kick_app:app", STORE=store)) for n in range(2)
        ]
        yield servers, store


@contextmanager
def streams(servers, *users):
    """Open a stream for each user on each server."""
    with ExitStack() as stack:
        opened = {}
        for user in users:
            for number, server in enumerate(servers):
                client = opened[user, number] = stack.enter_context(Client(server.port))
                client.get(f"/stream?user={user}")
                client.read_until(b"data: hello\n\n")
        yield opened


def check_ended(client, began):
    """See that the stream ended in time, with its farewell and its final chunk."""
    client.read_until(b"data: logged out\n\n")
    assert time.monotonic() - began < WITHIN
    while client.read_chunk():
        pass


def is_silent(client):
    return not select.select([client.socket], [], [], 0)[0]


@pytest.mark.parametrize("setup", SETUPS)
def test_a_log_out_reaches_every_worker(setup, tmp_path):
    """With two workers, a kick ends this user's streams in both of them within 0.2 s, and no other user's."""
    with two_workers(setup, tmp_path) as (servers, _), streams(servers, "ann", "bob") as opened:
        began = time.monotonic()
        request = Request(f"http://127.0.0.1:{servers[0].port}/log-out?user=ann", method="POST")
        with urlopen(request, timeout=10) as answer:
            assert answer.read() == b"1", "of its own process"
        for number in range(2):
            check_ended(opened["ann", number], began)
        assert all(is_silent(opened["bob", number]) for number in range(2))


@pytest.mark.parametrize("setup", SETUPS)
def test_a_program_without_a_loop_logs_out(setup, tmp_path):
    """A Publisher, in a process that serves nothing, ends a user's streams in all workers within 0.2 s."""
    with two_workers(setup, tmp_path) as (servers, store), streams(servers, "ann", "bob") as opened:
        with Publisher(store) as publisher:
            began = time.monotonic()
            publisher.kick({"user": "ann"}, group="sessions")
        for number in range(2):
            check_ended(opened["ann", number], began)
        assert all(is_silent(opened["bob", number]) for number in range(2))
