# Publishing to Redis: the script of the store, over redis-py. Needs the extra `publisher`.
#
# Rule 1: redis-py must not retry, or there would be two limits. The loop here retries for `retry_for` seconds, as a
#         store does; the script recognizes a group that it has had.
# Rule 2: redis-py connects anew after an error, and in a process that was forked, by itself.
# Rule 3: the protocol is RESP2, so that a user in Redis needs no other commands than for a store.

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, TypeAlias, cast, final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from .._arguments.checks import check_count, check_function, wrong
from .._errors import StoreUnavailableError
from ..stores._append import Append, Result
from ..stores._arguments import check_clock, check_wait
from ..stores._redis.backoff import CHECK_AFTER, Backoff
from ..stores._redis.calls import RedisCalls, Value, sha_of
from ..stores._redis.credentials import LogIn
from ..stores._redis.name import check_hub_name
from ..stores._redis.scripts import APPEND
from ..stores._redis.url import RedisAddress, check_sentinel_credentials, parse_redis_url
from ..stores._retention import KEY_SECONDS, Retention, check_remember_keys
from ..stores._topic_limits import PerTopic, TopicLimits
from ._redis_clients import Clients, FixedClient, OwnClient, PrimaryClient, Provider, ask_on, tell_hub

__all__ = ("check_redis", "new_redis")

_SHORTEST_WAIT = 0.001  # seconds
_Credentials: TypeAlias = "Callable[[], LogIn]"


def check_redis(value: object) -> bool:
    """Return whether the value is a client of redis-py's. ValueError if it decodes what it reads."""
    if not isinstance(value, Redis):
        return False
    if value.get_encoder().decode_responses:
        raise wrong(ValueError, "store", "a redis.Redis without decode_responses=True", value)
    return True


def new_redis(
    store: object,
    *,
    name: str = "sse_trio",
    max_events: int | None = 100_000,
    max_age: float | None = None,
    max_bytes: int | None = 256 * 1024 * 1024,
    per_topic: PerTopic = Retention(),  # noqa: B008 -- frozen
    reply_within: float = 5.0,
    retry_for: float = 10.0,
    ssl_context: None = None,
    credentials: _Credentials | None = None,
    sentinel_credentials: _Credentials | None = None,
    wait_replicas: int = 0,
    clock: Callable[[], float] = time.time,
    remember_keys: float = KEY_SECONDS,
) -> Callable[[], RedisConnection]:
    """Return what makes a connection. The options are those of ``RedisStore``, with its defaults."""
    limits = Retention(max_events=max_events, max_age=max_age, max_bytes=max_bytes)
    topic_limits = TopicLimits(per_topic, limits)
    check_wait("reply_within", reply_within, least=_SHORTEST_WAIT)
    check_wait("retry_for", retry_for, least=0)
    check_clock(clock)
    if ssl_context is not None:
        msg = (
            "redis-py takes no SSLContext; give Publisher a redis.Redis(host, ssl=True, ssl_ca_certs=...) as its store"
        )
        raise ValueError(msg)
    check_count("wait_replicas", wait_replicas, least=0)
    _check_credentials("credentials", credentials)
    _check_credentials("sentinel_credentials", sentinel_credentials)
    new_clients, where = _clients(store, reply_within, credentials, sentinel_credentials)
    check_remember_keys(remember_keys)
    new_calls = partial(RedisCalls, check_hub_name(name), limits, topic_limits, clock, remember_keys, retry_for)

    def connect() -> RedisConnection:
        calls = new_calls()
        return RedisConnection(new_clients(calls), where, calls, retry_for, wait_replicas, reply_within)

    return connect


def _check_credentials(name: str, credentials: object) -> None:
    if credentials is not None:
        check_function(name, credentials, "an ordinary function that returns a user and a password, or None")


def _clients(
    store: object, reply_within: float, credentials: _Credentials | None, sentinel_credentials: _Credentials | None
) -> tuple[Callable[[RedisCalls], Clients], str]:
    address = parse_redis_url(store) if isinstance(store, str) else None
    check_sentinel_credentials(address, sentinel_credentials)
    check_after = min(CHECK_AFTER, reply_within)
    if address is None:
        return lambda calls: OwnClient(cast("Redis", store), calls, check_after), "Redis"
    options, name = _options(address, reply_within, _log_in(address, credentials)), f"Redis at {address.name}"
    options |= {"db": address.db}
    if address.kind == "server":
        return lambda calls: FixedClient(_new_client(address, options, calls)), name
    is_cluster = address.kind == "cluster"  # a sentinel has no databases, and users of its own
    to_ask = (
        options
        if is_cluster
        else _options(address, reply_within, _provider("sentinel_credentials", sentinel_credentials))
    )
    return lambda calls: PrimaryClient(address, options, to_ask, calls, check_after), name


def _new_client(address: RedisAddress, options: dict[str, Any], calls: RedisCalls) -> Redis:
    def begin(connection: Any) -> None:
        connection.on_connect()
        tell_hub(calls, partial(ask_on, connection))

    # redis-py's annotation leaves out the connection.
    return Redis(**_location(address), redis_connect_func=cast("Callable[[], None]", begin), **options)


def _provider(name: str, credentials: _Credentials | None) -> dict[str, Any]:
    return {} if credentials is None else {"credential_provider": Provider(name, credentials)}


def _log_in(address: RedisAddress, credentials: _Credentials | None) -> dict[str, Any]:
    return _provider("credentials", credentials) or {"username": address.username, "password": address.password}


def _options(address: RedisAddress, reply_within: float, log_in: dict[str, Any]) -> dict[str, Any]:
    if address.tls:
        log_in |= {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
    return {
        **log_in,
        "socket_timeout": reply_within,
        "socket_connect_timeout": reply_within,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }


def _location(address: RedisAddress) -> dict[str, Any]:
    if address.path:
        return {"unix_socket_path": address.path}
    ((host, port),) = address.nodes
    return {"host": host, "port": port}


@final
class RedisConnection:
    """Appends to a hub in Redis."""

    closes_for_forks = forbids_forks = False  # a child has a client of its own, and does nothing to the inherited one

    def __init__(
        self, clients: Clients, where: str, calls: RedisCalls, retry_for: float, wait_replicas: int, reply_within: float
    ) -> None:
        self.name = where
        self._clients = clients
        self._calls = calls
        self._retry_for = retry_for
        self._wait_replicas = wait_replicas
        self._wait_ms = round(reply_within * 500)  # half of it, or the connection would be given up first
        self._group_numbers = count(1)

    def append(self, group: Sequence[Append], /) -> list[Result]:
        """Append a group, and send it until it is answered."""
        args = self._calls.append(group, next(self._group_numbers))
        backoff, until = Backoff(), time.monotonic() + self._retry_for
        while True:
            try:
                return self._append(args)
            except (RedisError, OSError) as exc:
                self._clients.note_failure()
                pause = backoff.next_pause()
                if time.monotonic() + pause > until:
                    raise StoreUnavailableError(self.name, exc) from exc
            time.sleep(pause)

    def _append(self, args: Sequence[Value]) -> list[Result]:
        client = self._clients.get()
        keys = self._calls.keys
        keys_and_values = [*keys, *self._calls.values(args)]
        try:
            answer: object = client.evalsha(sha_of(APPEND), len(keys), *keys_and_values)
        except NoScriptError:  # the server is new, or has dropped its scripts
            answer = client.eval(APPEND, len(keys), *keys_and_values)
        results = self._calls.appended(cast("list[bytes]", answer))
        if self._wait_replicas:
            self._wait(client)
        return results

    def _wait(self, client: Redis) -> None:
        acknowledged: int = cast("Any", client).wait(self._wait_replicas, self._wait_ms)
        if acknowledged < self._wait_replicas:
            raise RedisError(f"{acknowledged} of {self._wait_replicas} replicas have acknowledged it")

    def close(self) -> None:
        """Close the connection; it is opened again when it is used."""
        self._clients.close()
