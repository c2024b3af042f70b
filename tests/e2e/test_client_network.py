# The client and what a network does beneath HTTP: certificates, pools of connections, redirects that leave TLS.
#
# Rule 1: real sockets, on every loop that the client runs on, as each words its errors in its own way.
# Rule 2: the server is a few lines in the test's own task tree, and answers what the test says.

from __future__ import annotations

import socket
import ssl
from contextlib import asynccontextmanager, suppress

import anyio
import httpx
import pytest
import trustme
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener

from sse_trio.client import EventSourceError, open_event_source

LOOPS = ["asyncio", "trio"]
try:
    import uvloop  # noqa: F401
except ImportError:
    pass
else:
    LOOPS.append(("asyncio", {"use_uvloop": True}))

pytestmark = [pytest.mark.e2e, pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: x\n\n"


@pytest.fixture(params=LOOPS, ids=lambda loop: loop if isinstance(loop, str) else "uvloop")
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def trust(authority):
    """What a client trusts."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def context_of(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


@asynccontextmanager
async def serve(answer, context=None, *, linger=0.0):
    """Answer each connection's request, note its bytes, and close it after a while."""
    requests = []

    async def handle(connection):
        with suppress(anyio.BrokenResourceError, anyio.EndOfStream, ssl.SSLError):
            async with connection:
                requests.append(await connection.receive())
                await connection.send(answer)
                await anyio.sleep(linger)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    if context is not None:
        listener = TLSListener(listener, context, handshake_timeout=5)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield port, requests
        tasks.cancel_scope.cancel()


async def refused(url, verify):
    """The error that a source ends with, though it may connect again."""
    with anyio.fail_after(10), pytest.raises(EventSourceError) as info:
        async with httpx.AsyncClient(verify=verify) as client, open_event_source(url, client=client, retry=60):
            pytest.fail("opened")
    return info.value


async def test_a_certificate_of_nobody_known_is_final(trust):
    """A certificate of an authority that isn't trusted ends the source at once, and the error says why."""
    async with serve(STREAM, context_of(trustme.CA().issue_cert("127.0.0.1"))) as (port, _):
        error = await refused(f"https://127.0.0.1:{port}/", trust)
    assert "certificate verify failed" in str(error)
    assert "certificate verify failed" in repr(error.__cause__)


async def test_a_certificate_for_another_name_is_final(authority, trust):
    """So does one for another host."""
    async with serve(STREAM, context_of(authority.issue_cert("example.org"))) as (port, _):
        error = await refused(f"https://127.0.0.1:{port}/", trust)
    assert "is not valid for '127.0.0.1'" in str(error)


async def test_a_certificate_that_the_server_wants_is_final(authority, trust):
    """And a server that refuses a client for want of a certificate, which over TLS 1.3 comes after the handshake."""
    context = context_of(authority.issue_cert("127.0.0.1"))
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, refuse_a_client, listener, context)
            error = await refused(f"https://127.0.0.1:{listener.getsockname()[1]}/", trust)
    assert "CERTIFICATE_REQUIRED" in str(error)


def refuse_a_client(listener, context):
    """Fail a handshake as servers do, with an alert, which anyio's server doesn't send; in a thread."""
    listener.settimeout(10)
    connection, _ = listener.accept()
    connection.settimeout(10)
    with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as tls:
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            tls.do_handshake()
        # Until the client has read the alert and gone: what isn't read when a socket is closed makes it a reset.
        with suppress(ConnectionResetError):
            while socket.socket.recv(tls, 1000):
                pass


async def test_no_tls_where_it_was_expected_is_tried_again(caplog):
    """A server that doesn't speak TLS may be about to: it is tried again, and the log says what came."""
    async with serve(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (port, requests):
        with anyio.move_on_after(10):
            async with httpx.AsyncClient(verify=False) as client:
                stop_after_three = stopper(3)
                async with open_event_source(
                    f"https://127.0.0.1:{port}/", client=client, retry=0, on_state_change=stop_after_three
                ):
                    pass
    assert len(requests) == 2
    assert "SSL" in caplog.text


def stopper(attempts):
    def stop(source):
        if source.attempt == attempts:
            source.close()

    return stop


async def test_leaving_tls_takes_nothing_secret_along(authority, trust):
    """From https to http go no credentials, cookies or ids, and a body not at all."""
    async with serve(STREAM) as (plain, requests):
        answer = (
            b"HTTP/1.1 307 x\r\nset-cookie: c=SECRET\r\nlocation: http://localhost:%d/\r\ncontent-length: 0\r\n\r\n"
        )
        async with (
            serve(answer % plain, context_of(authority.issue_cert("localhost"))) as (port, _),
            httpx.AsyncClient(verify=trust, cookies={"b": "SECRET"}) as client,
        ):
            url = f"https://u:SECRET@localhost:{port}/"
            headers = {"authorization": "SECRET", "x-api-key": "SECRET"}
            options = {"client": client, "headers": headers, "last_event_id": "SECRET", "reconnect": False}
            with anyio.fail_after(10):
                async with open_event_source(url, **options) as source:
                    assert [event.data async for event in source] == ["x"]
                with pytest.raises(EventSourceError, match="another origin") as info:
                    async with open_event_source(url, method="POST", json="SECRET", **options):
                        pytest.fail("opened")
    assert len(requests) == 1
    assert b"SECRET" not in requests[0]
    assert "SECRET" not in str(info.value)


async def test_a_pool_that_is_used_up_says_so():
    """A source that gets no connection of its client's pool says so, and what to do, each time that it tries."""
    async with serve(STREAM, linger=30) as (port, _):
        limits, timeout = httpx.Limits(max_connections=1), httpx.Timeout(5, pool=0.1)
        async with (
            httpx.AsyncClient(limits=limits, timeout=timeout, verify=False) as client,
            open_event_source(f"http://127.0.0.1:{port}/", client=client) as source,
        ):
            await anext(source)
            with anyio.fail_after(10), pytest.raises(EventSourceError, match=r"pool.*max_connections") as info:
                async with open_event_source(f"http://127.0.0.1:{port}/", client=client, reconnect=False):
                    pytest.fail("opened")
    assert isinstance(info.value.__cause__, httpx.PoolTimeout)


async def test_a_connection_that_is_refused_says_so():
    """No server at all: the error has words on every loop."""
    async with httpx.AsyncClient(verify=False) as client:
        with anyio.fail_after(10), pytest.raises(EventSourceError, match=r"failed: ConnectError\('.*\w.*'\)"):
            async with open_event_source("http://127.0.0.1:1/", client=client, reconnect=False):
                pytest.fail("opened")
