# What an error of httpx's means: its cause in words, and whether trying again can help.
#
# Rule 1: every error says its cause. Some of httpx's say nothing ("ConnectError('')" on trio), because the words are in
#         the exception that caused them, or nowhere. None quotes a URL: a Location may have a password in it.
# Rule 2: every error is httpx's. An alert of TLS that comes after the handshake gets past httpx on asyncio.
# Rule 3: a certificate that one side refuses is a matter for people. Trying again doesn't help, so it is final.

from __future__ import annotations

import ssl
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import httpx

__all__ = ("explain", "is_certificate_error", "tls_as_httpx")

# What OpenSSL calls an alert about a certificate: the peer's word for ours, or ours for the peer's.
_OF_CERTIFICATES = ("CERTIFICATE", "UNKNOWN_CA")
# httpx gives these no words at all.
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
def tls_as_httpx() -> Generator[None, None, None]:
    """Raise an error of TLS as httpx's, with the same words."""
    try:
        yield
    except ssl.SSLError as exc:
        raise httpx.ReadError(str(exc)) from exc


def explain(error: httpx.HTTPError) -> None:
    """Give an error that has no message the one of its cause, and one about a Location that quotes it none of it."""
    if isinstance(error.__context__, httpx.InvalidURL):
        error.args = ("Invalid URL in Location",)
    elif not str(error).strip():
        # It is ours by now, and to replace it would lose the traceback and the class.
        error.args = (_words(error),)


def _words(error: httpx.HTTPError) -> str:
    if type(error) in _TIMEOUTS:
        return _TIMEOUTS[type(error)]
    causes = list(_chain(error))
    words = (str(cause) for cause in causes if str(cause).strip())
    return next(words, f"caused by {type(causes[-1]).__name__}")


def is_certificate_error(error: BaseException) -> bool:
    """Whether TLS failed because of a certificate: it has expired, is for another name, comes from nobody known."""
    return any(isinstance(cause, ssl.SSLError) and _is_about_a_certificate(cause) for cause in _chain(error))


def _is_about_a_certificate(error: ssl.SSLError) -> bool:
    return isinstance(error, ssl.SSLCertVerificationError) or any(word in str(error) for word in _OF_CERTIFICATES)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, what caused that, and so on."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
