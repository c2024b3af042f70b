# Short streams on hypercorn's trio worker: each leaves as one packet, and a client that takes none holds nothing.

from __future__ import annotations

import socket
import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from ._client import SMALL, Client
from ._servers import Server, patience, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

DATA_SEGMENTS_IN = 152  # the place of tcpi_data_segs_in in Linux' struct tcp_info
CLIENTS = 6


@pytest.fixture(scope="module", params=["hypercorn-trio", "hypercorn-serve"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(request.param, tmp_path_factory.mktemp("short")) as running:
        yield running


def received_packets(client: Client) -> int:
    """How many packets with data have come."""
    info = client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, DATA_SEGMENTS_IN + 4)
    return int(struct.unpack_from("I", info, DATA_SEGMENTS_IN)[0])


def test_it_is_one_packet(server: Server) -> None:
    """Head, events and final frame come together, on a connection that serves on."""
    with Client(server.port) as client:
        packets = [0]
        for _ in range(20):
            client.get("/count")
            assert client.read_to_end().count(b"data: ") == 3
            packets.append(received_packets(client))
    each = [after - before for before, after in pairwise(packets)]
    # All but those during which the machine paused: the kernel keeps nothing for more than a fifth of a second.
    assert min(each) == 1


def test_a_middleware_in_between(server: Server) -> None:
    """What a middleware passes on leaves at once: it may wait between two messages."""
    with Client(server.port) as client:
        client.get("/wrapped/count")
        client.read_to_end()
        assert received_packets(client) >= 2


@pytest.mark.parametrize(("option", "reason"), [("send_timeout=1", "send_timeout"), ("max_lifetime=1", "lifetime")])
def test_clients_that_read_none(server: Server, option: str, reason: str) -> None:
    """Wherever in a short stream a connection is full, it is dropped in time (C11)."""
    clients = {f"{reason}-{number}": Client(server.port, receive_buffer=SMALL) for number in range(CLIENTS)}
    for name, client in clients.items():
        request = f"GET /count?name={name}&{option} HTTP/1.1\r\nhost: localhost\r\n\r\n"
        client.socket.sendall(request.encode() * 200)  # for more streams than its connection holds
    for name, client in clients.items():
        wait_reason(server, name, reason)
        client.wait_reset(10 * patience())
        client.close()


def wait_reason(server: Server, name: str, reason: str) -> None:
    """Wait until one of the streams of this name has ended for this reason."""
    found = server.reports.wait(
        lambda reports: any(each.name == name and each.more == {"reason": reason} for each in reports), 30 * patience()
    )
    assert found is True
