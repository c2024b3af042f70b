"""Errors of the network in words, and which of them are final."""

from __future__ import annotations

import ssl

import httpx
import pytest

from sse_trio.client import EventSourceError, open_event_source
from sse_trio.client._network_errors import explain, is_certificate_error

pytestmark = pytest.mark.anyio


def caused(error, *causes):
    """The error, with a chain of causes."""
    last = error
    for cause in causes:
        last.__cause__ = cause
        last = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("refused"), "refused"),
        (caused(httpx.ReadError(""), OSError(""), OSError(104, "reset")), "[Errno 104] reset"),
        (caused(httpx.ReadError(" "), EOFError(), BrokenPipeError()), "caused by BrokenPipeError"),
        (httpx.ReadError(""), "caused by ReadError"),
        (caused(httpx.PoolTimeout(""), TimeoutError("scope 7f")), "every connection of the httpx client's pool"),
        (httpx.ConnectTimeout(""), "connect timeout"),
        (httpx.WriteTimeout(""), "write timeout"),
    ],
)
def test_every_error_says_its_cause(error, words):
    """An error without a message gets that of its cause, or a description of its kind."""
    explain(error)
    assert words in str(error)


def test_causes_in_a_circle():
    """A circular chain of causes is followed once."""
    error, other = httpx.ReadError(""), OSError()
    caused(error, other).__cause__.__cause__ = error
    explain(error)
    assert str(error) == "caused by OSError"


def of_reason(reason):
    return ssl.SSLError(1, f"[SSL: {reason}]")


@pytest.mark.parametrize(
    ("cause", "is_final"),
    [
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), True),
        (of_reason("TLSV13_ALERT_CERTIFICATE_REQUIRED"), True),
        (of_reason("SSLV3_ALERT_CERTIFICATE_EXPIRED"), True),
        (of_reason("TLSV1_ALERT_UNKNOWN_CA"), True),
        (of_reason("WRONG_VERSION_NUMBER"), False),
        (of_reason(None), False),
        (OSError("certificate"), False),
    ],
)
async def test_an_error_of_certificates_is_final(serve, stream, answer, cause, is_final):
    """A certificate that either side refuses ends the source at once; other TLS errors are retried."""
    error = caused(httpx.ConnectError(""), OSError(), cause)
    assert is_certificate_error(error) is is_final
    server = serve(answer(error=error), stream("data: x\n\n"), stream(status=204))
    try:
        async with server.client() as client, open_event_source("/", client=client) as source:
            assert [event.data async for event in source] == ["x"]
    except EventSourceError as failure:
        assert is_final
        assert failure.__cause__ is error
        assert cause.args[1] in str(failure)
    else:
        assert not is_final
        assert len(server.requests) == 3


async def test_an_error_of_tls_before_the_head(serve, stream, answer):
    """A TLS alert that httpx doesn't convert is a broken connection, and the source tries again."""
    server = serve(answer(error=of_reason("DECRYPTION_FAILED_OR_BAD_RECORD_MAC")), stream("data: x\n\n"))
    async with server.client() as client, open_event_source("/", client=client) as source:
        assert isinstance(source.error, httpx.ReadError)
        assert (await anext(source)).data == "x"


@pytest.mark.parametrize("status", [200, 404])
async def test_an_error_of_tls_in_the_middle(serve, stream, status):
    """A TLS error while the body is read, which bypasses httpx on asyncio, is a lost connection like any other."""
    broken = ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC]")
    server = serve(stream("data: x\n\n", broken, status=status), stream("data: y\n\n"), stream(status=204))
    async with (
        server.client() as client,
        open_event_source("/", client=client, retry_statuses={404}) as source,
    ):
        assert [event.data async for event in source] == (["x", "y"] if status == 200 else ["y"])


async def test_the_log_and_the_source_say_the_cause(serve, stream, answer, caplog):
    """on_state_change, the log and the final error all have the message of the cause."""
    error = caused(httpx.ConnectError(""), OSError(111, "refused"))
    server = serve(answer(error=error), stream(status=204))
    errors = []
    async with (
        server.client() as client,
        open_event_source("/", client=client, on_state_change=lambda source: errors.append(str(source.error))),
    ):
        pass
    assert errors[1] == "[Errno 111] refused"
    assert "ConnectError('[Errno 111] refused')" in caplog.text
