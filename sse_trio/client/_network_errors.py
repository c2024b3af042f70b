# Errors of httpx: their cause in words, and whether a certificate is at fault.
#
# Rule 1: every error says its cause. Some of httpx's have no message ("ConnectError('')" on trio), because it is in the
#         exception that caused them, or nowhere. No message quotes a URL: a Location may have a password in it.
# Rule 2: every error is httpx's. On asyncio, httpx doesn't convert a TLS alert that comes after the handshake; and it
#         reads a Location with tools that raise errors of their own.
# Rule 3: a refused certificate is final: trying again doesn't help, a person has to change the configuration.

from __future__ import annotations

import ssl
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import httpx
from idna import IDNAError

__all__ = ("as_httpx", "explain", "is_certificate_error")

# OpenSSL's names for an alert about a certificate: the peer refuses ours, or we refuse the peer's.
_OF_CERTIFICATES = ("CERTIFICATE", "UNKNOWN_CA")
# httpx gives these no message at all.
_TIMEOUTS: Final[Mapping[type[httpx.HTTPError], str]] = {
    httpx.PoolTimeout: (
        "every connection of the httpx client's pool was in use for as long as its pool timeout allows; each stream "
        "takes one (over HTTP/1.1), so give the client more with limits=httpx.Limits(max_connections=...), or use "
        "several clients"
    ),
    httpx.ConnectTimeout: "no connection within the httpx client's connect timeout",
    httpx.WriteTimeout: "the request could not be written within the httpx client's write timeout",
}


@contextmanager
def as_httpx() -> Generator[None, None, None]:
    """Raise an error of TLS as one of httpx, with the same message; and one of a Location, without quoting it."""
    try:
        yield
    except ssl.SSLError as exc:
        raise httpx.ReadError(str(exc)) from exc
    except (httpx.InvalidURL, IDNAError) as exc:  # the request's own URL has been checked
        raise httpx.RemoteProtocolError("Invalid URL in Location") from exc


def explain(error: httpx.HTTPError) -> None:
    """Give an error without a message that of its cause. An error about a Location gets one that doesn't quote it."""
    if isinstance(error.__context__, httpx.InvalidURL):
        error.args = ("Invalid URL in Location",)
    elif not str(error).strip():
        # A new exception would lose the traceback and the class.
        error.args = (_message_of(error),)


def _message_of(error: httpx.HTTPError) -> str:
    if type(error) in _TIMEOUTS:
        return _TIMEOUTS[type(error)]
    causes = list(_causes_of(error))
    messages = (str(cause) for cause in causes if str(cause).strip())
    return next(messages, f"caused by {type(causes[-1]).__name__}")


def is_certificate_error(error: BaseException) -> bool:
    """Whether TLS failed because of a certificate: expired, for another name, from an unknown authority."""
    return any(isinstance(cause, ssl.SSLError) and _is_about_a_certificate(cause) for cause in _causes_of(error))


def _is_about_a_certificate(error: ssl.SSLError) -> bool:
    return isinstance(error, ssl.SSLCertVerificationError) or any(word in str(error) for word in _OF_CERTIFICATES)


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, its cause, the cause's cause, and so on."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
