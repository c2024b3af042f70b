# The URL of a Redis server, or of who knows where it is, parsed here and not by the driver. No I/O.
#
# Rule 1: an unknown part is refused, never passed on: a parameter of the driver could turn off the check of the
#         server's name, and a piece of an unescaped password could end up as a host name.
# Rule 2: no message quotes any part of the URL, which may be a part of the password.

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, cast, final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

__all__ = ("RedisAddress", "check_sentinel_credentials", "parse_redis_url")

_FORM = (
    "write redis://[user:password@]host[:port][/db], rediss:// for TLS, unix:///path[?db=0], "
    "sentinel://[user:password@]host[:port][,host[:port]...]/service[/db], sentinels:// for TLS, "
    "cluster://[user:password@]host[:port][,host[:port]...], or clusters:// for TLS, "
    "with user and password percent-encoded: urllib.parse.quote(password, safe='')"
)
_SCHEMES = ("redis", "rediss", "unix", "sentinel", "sentinels", "cluster", "clusters")
_PORT = 6379
_SENTINEL_PORT = 26379


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where a server is, or who knows that, and the user to log in as."""

    nodes: tuple[tuple[str, int], ...]
    """Hosts and ports: of the server; or of sentinels, or of some nodes of a cluster, in the order to ask them in."""
    kind: Literal["server", "sentinel", "cluster"]
    service: str
    """The name by which sentinels know the server."""
    path: str
    """Of a unix socket; empty where there are nodes."""
    tls: bool
    db: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)

    @property
    def name(self) -> str:
        """The address without user and password, for messages."""
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        if self.kind == "sentinel":
            return f"{self.service} of sentinel {nodes}"
        return self.path or (f"cluster {nodes}" if self.kind == "cluster" else nodes)


def check_sentinel_credentials(address: RedisAddress | None, credentials: object) -> None:
    """Raise ValueError if nobody would be asked for them: there is no address, or it names no sentinels."""
    if credentials is not None and (address is None or address.kind != "sentinel"):
        raise ValueError(
            "sentinel_credentials must be None without sentinels; write a sentinel:// URL, or leave it out"
        )


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
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"url must begin with {', '.join(f'{scheme}://' for scheme in _SCHEMES)}; {_FORM}")
    if "@" in parts.path + parts.query + parts.fragment or parts.fragment or "#" in url:
        raise ValueError(f"url must have no fragment, and each / ? and # before its @ percent-encoded; {_FORM}")
    return _address(parts)


def _split(url: str) -> SplitResult:
    with suppress(ValueError):
        return urlsplit(url)
    raise _bad_host()  # without its cause, whose text quotes the URL


def _bad_host() -> ValueError:
    return ValueError(f"url must have a valid host and port; {_FORM}")


def _address(parts: SplitResult) -> RedisAddress:
    kind, is_unix = _kind(parts.scheme), parts.scheme == "unix"
    hosts = parts.netloc.rpartition("@")[2]
    if is_unix and (hosts or len(parts.path) < 2):
        raise ValueError(f"url must name the path of a unix socket, and no host; {_FORM}")
    service, path = ("", parts.path) if kind != "sentinel" else _service(parts.path)
    address = RedisAddress(
        nodes=() if is_unix else _nodes(hosts, kind),
        kind=kind,
        service=service,
        path=unquote(parts.path) if is_unix else "",
        tls=parts.scheme in {"rediss", "sentinels", "clusters"},
        db=_database("" if is_unix else path, parts.query),
        username=_decoded(parts.username),
        password=_decoded(parts.password),
    )
    if kind == "cluster" and address.db:
        raise ValueError(f"url must name no database of a cluster, which has only one; {_FORM}")
    return address


def _kind(scheme: str) -> Literal["server", "sentinel", "cluster"]:
    if scheme.startswith("sentinel"):
        return "sentinel"
    return "cluster" if scheme.startswith("cluster") else "server"


def _service(path: str) -> tuple[str, str]:
    # Of "/service/db": the name, and what is left of the path.
    name, _, db = path.lstrip("/").partition("/")
    if not name:
        raise ValueError(f"url must name the service that the sentinels watch, as the path; {_FORM}")
    return unquote(name), db


def _nodes(hosts: str, kind: str) -> tuple[tuple[str, int], ...]:
    port = _SENTINEL_PORT if kind == "sentinel" else _PORT
    return tuple(_node(host, port) for host in ([hosts] if kind == "server" else hosts.split(",")))


def _node(text: str, port: int) -> tuple[str, int]:
    with suppress(ValueError):  # of a port that is not a number
        parts = urlsplit(f"//{text}")
        return unquote(parts.hostname or "localhost"), port if parts.port is None else parts.port
    raise _bad_host()


def _decoded(text: str | None) -> str | None:
    return unquote(text) if text else None


def _database(path: str, query: str) -> int:
    options = dict(parse_qsl(query, keep_blank_values=True))
    number = path.strip("/")
    number = options.pop("db", number) or "0"
    if options:
        raise ValueError(
            f"url must have no options but db; give others as arguments, such as ssl_context= for TLS; {_FORM}"
        )
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise ValueError(f"url must have a number as its database; {_FORM}")
    return int(number)
