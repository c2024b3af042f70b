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
from typing import Any, cast, final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from .._arguments.checks import wrong
from .._errors import StoreUnavailableError
from ..stores._append import Append, Result
from ..stores._arguments import check_clock, check_wait
from ..stores._redis.backoff import Backoff
from ..stores._redis.calls import RedisCalls, Value, sha_of
from ..stores._redis.name import check_hub_name
from ..stores._redis.scripts import APPEND
from ..stores._redis.url import RedisAddress, parse_redis_url
from ..stores._retention import KEY_SECONDS, Retention, check_remember_keys
from ..stores._topic_limits import PerTopic, TopicLimits

__all__ = ("check_redis", "new_redis")

_SHORTEST_WAIT = 0.001  # seconds


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
    new_client, where = _client(store, reply_within)
    check_remember_keys(remember_keys)
    new_calls = partial(RedisCalls, check_hub_name(name), limits, topic_limits, clock, remember_keys)
    return lambda: RedisConnection(new_client(), where, new_calls(), retry_for)


def _client(store: object, reply_within: float) -> tuple[Callable[[], Redis], str]:
    if not isinstance(store, str):
        return lambda: cast("Redis", store), "Redis"
    address = parse_redis_url(store)
    new_client = partial(
        Redis,
        db=address.db,
        username=address.username,
        password=address.password,
        socket_timeout=reply_within,
        socket_connect_timeout=reply_within,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        **_location(address),
    )
    return new_client, f"Redis at {address.name}"


def _location(address: RedisAddress) -> dict[str, Any]:
    if address.path:
        return {"unix_socket_path": address.path}
    location: dict[str, Any] = {"host": address.host, "port": address.port}
    if address.tls:
        location |= {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
    return location


@final
class RedisConnection:
    """Appends to a hub in Redis."""

    closes_for_forks = forbids_forks = False  # a child has a client of its own, and does nothing to the inherited one

    def __init__(self, client: Redis, where: str, calls: RedisCalls, retry_for: float) -> None:
        self.name = where
        self._client = client
        self._calls = calls
        self._retry_for = retry_for
        self._group_numbers = count(1)

    def append(self, group: Sequence[Append], /) -> list[Result]:
        """Append a group, and send it until it is answered."""
        args = self._calls.append(group, next(self._group_numbers))
        backoff, until = Backoff(), time.monotonic() + self._retry_for
        while True:
            try:
                return self._calls.appended(self._run(self._calls.values(args)))
            except (RedisError, OSError) as exc:
                pause = backoff.next_pause()
                if time.monotonic() + pause > until:
                    raise StoreUnavailableError(self.name, exc) from exc
            time.sleep(pause)

    def _run(self, values: Sequence[Value]) -> list[bytes]:
        keys_and_values = [*self._calls.keys, *values]
        try:
            answer: object = self._client.evalsha(sha_of(APPEND), 1, *keys_and_values)
        except NoScriptError:  # the server is new, or has dropped its scripts
            answer = self._client.eval(APPEND, 1, *keys_and_values)
        return cast("list[bytes]", answer)

    def close(self) -> None:
        """Close the connection; it is opened again when it is used."""
        self._client.close()
