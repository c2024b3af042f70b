# The URL of a Redis server, parsed here and not by the driver. No I/O.
#
# Rule 1: an unknown part is refused, never passed on: a parameter of the driver could turn off the check of the
#         server's name, and a piece of an unescaped password could end up as a host name.
# Rule 2: no message quotes any part of the URL, which may be a part of the password.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast, final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

__all__ = ("RedisAddress", "parse_redis_url")

_FORM = (
    "write redis://[user:password@]host[:port][/db], rediss:// for TLS, or unix:///path[?db=0], "
    "with user and password percent-encoded: urllib.parse.quote(password, safe='')"
)
_PORT = 6379


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """The address of a server, and the user to log in as."""

    host: str
    port: int
    path: str
    """Of a unix socket; empty where there is a host."""
    tls: bool
    db: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)

    @property
    def name(self) -> str:
        """The address without user and password, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"


def parse_redis_url(url: str) -> RedisAddress:
    """Return the address that a URL names.

    Raises:
        TypeError: it is not a ``str``.
        ValueError: it is not the URL of a Redis server. The message quotes nothing of it.
    """
    if not isinstance(cast("object", url), str):
        raise TypeError(f"url must be a str; got an object of type {type(url).__name__}; {_FORM}")
    if not url.isprintable() or " " in url:  # urlsplit would drop them silently
        raise ValueError(f"url must have no blanks and no characters that can't be printed; {_FORM}")
    parts = _split(url)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(f"url must begin with redis://, rediss:// or unix://; {_FORM}")
    if "@" in parts.path + parts.query + parts.fragment or parts.fragment or "#" in url:
        raise ValueError(f"url must have no fragment, and each / ? and # before its @ percent-encoded; {_FORM}")
    return _address(parts)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        pass
    else:
        return parts
    raise ValueError(f"url must have a valid host and port; {_FORM}")  # without its cause, whose text quotes the URL


def _address(parts: SplitResult) -> RedisAddress:
    is_unix = parts.scheme == "unix"
    if is_unix and (parts.hostname or len(parts.path) < 2):
        raise ValueError(f"url must name the path of a unix socket, and no host; {_FORM}")
    return RedisAddress(
        host="" if is_unix else unquote(parts.hostname or "localhost"),
        port=_PORT if parts.port is None else parts.port,
        path=unquote(parts.path) if is_unix else "",
        tls=parts.scheme == "rediss",
        db=_database(parts, is_unix=is_unix),
        username=_decoded(parts.username),
        password=_decoded(parts.password),
    )


def _decoded(text: str | None) -> str | None:
    return unquote(text) if text else None


def _database(parts: SplitResult, *, is_unix: bool) -> int:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    number = "" if is_unix else parts.path.strip("/")
    number = options.pop("db", number) or "0"
    if options:
        raise ValueError(
            f"url must have no options but db; give others as arguments, such as ssl_context= for TLS; {_FORM}"
        )
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise ValueError(f"url must have a number as its database; {_FORM}")
    return int(number)
