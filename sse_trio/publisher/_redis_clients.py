# The client of a Publisher: of one server, or of the primary that sentinels or the nodes of a cluster name.
#
# Rule 1: the primary is looked for again after an error, and by a publish that comes a second after the last look, as a
#         store does (stores/_redis/primary.py).
# Rule 2: redis-py connects anew by itself, also without an error: when the server has closed an idle connection. So it
#         is the connection that tells the hub which server it is on, before anything else is sent on it, also where
#         there is one server: it may be back with less than it had. And then the primary is looked for: who was it may
#         be back with what it had long ago, and believe that it is the primary.
# Rule 3: the connections of a client of the user's own are not ours. The hub is told by the client, before the first
#         publish, after an error, and by a publish that comes a second after the last time.

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, cast, final

from redis import ConnectionError as RedisConnectionError
from redis import CredentialProvider, Redis
from redis.exceptions import RedisError, ResponseError

from ..stores._redis.calls import RedisCalls
from ..stores._redis.credentials import LogIn, has_raised, has_returned, is_log_in
from ..stores._redis.scripts import ADOPT
from ..stores._redis.url import RedisAddress

__all__ = ("Clients", "FixedClient", "OwnClient", "PrimaryClient", "Provider", "ask_on", "tell_hub")


class Clients(Protocol):
    """Where a connection gets its client from."""

    def get(self) -> Redis:
        """Return the client to use now. Raises ``RedisError`` or ``OSError`` if none can be found."""
        ...

    def note_failure(self) -> None:
        """Note that a call has failed: another server may be the one to call."""

    def close(self) -> None:
        """Close it; get() returns a new one, or opens it again."""


@final
class FixedClient:
    """One client for good, whose connections tell the hub themselves."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def get(self) -> Redis:
        """Return it."""
        return self._client

    def note_failure(self) -> None:
        """Do nothing: redis-py has closed the connection that failed."""

    def close(self) -> None:
        """Close its connections, which are opened again when they are used."""
        self._client.close()


@final
class OwnClient:
    """A client of the user's.

    Args:
        client: the client.
        calls: of the hub.
        check_after: seconds after which the hub is told again.
    """

    def __init__(self, client: Redis, calls: RedisCalls, check_after: float) -> None:
        self._client = client
        self._calls = calls
        self._check_after = check_after
        self._told_at: float | None = None

    def get(self) -> Redis:
        """Return it, after telling the hub, if that is due."""
        if self._told_at is None or time.monotonic() - self._told_at > self._check_after:
            tell_hub(self._calls, lambda *words: _execute(self._client, *words))
            self._told_at = time.monotonic()
        return self._client

    def note_failure(self) -> None:
        """Tell the hub again. The client has closed the connection that failed, and others are not ours to close."""
        self._told_at = None

    def close(self) -> None:
        """Close its connections, which are opened again when they are used."""
        self._client.close()
        self._told_at = None


def tell_hub(calls: RedisCalls, ask: Callable[..., Any]) -> None:
    """Tell the hub which server this is, unless the user may not know it. ``ask`` sends a command."""
    try:
        replication_id = _replication(ask).get("master_replid")
    except ResponseError:
        return  # a single server that may not be asked is believed to keep what it has
    if replication_id is not None:
        _adopt(calls, replication_id, ask)


def _replication(ask: Callable[..., Any]) -> dict[str, str]:
    answer: dict[str, str] | bytes = ask("INFO", "replication")
    if isinstance(answer, dict):  # a client has read it, a connection has not
        return answer
    return dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)


def _adopt(calls: RedisCalls, replication_id: str, ask: Callable[..., Any]) -> None:
    keys, values = calls.keys, calls.values(calls.adopt(replication_id))
    calls.adopted(ask("EVAL", ADOPT, len(keys), *keys, *values))


@final
class Provider(CredentialProvider):
    """Asks the user's function for each connection.

    Args:
        name: of the argument that the function is.
        credentials: the function.
    """

    def __init__(self, name: str, credentials: Callable[[], LogIn]) -> None:
        self._name = name
        self._credentials = credentials

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return a password, or a user and a password."""
        try:
            answer: object = self._credentials()
        except Exception as exc:  # what it asks may be down: the call is tried again, as if the server were
            raise RedisConnectionError(has_raised(self._name, exc)) from exc
        if not is_log_in(answer):
            raise RedisConnectionError(has_returned(self._name, answer))
        username, password = answer
        return (password,) if username is None else (username, password)


@final
class PrimaryClient:
    """A client of the primary, wherever it is.

    Args:
        address: who knows it.
        options: of redis-py's ``Redis``, for the servers.
        options_to_ask: the same for who is asked, the sentinels or the nodes.
        calls: of the hub.
        check_after: seconds after which a client looks whether it is still the primary's.
    """

    def __init__(
        self,
        address: RedisAddress,
        options: Mapping[str, Any],
        options_to_ask: Mapping[str, Any],
        calls: RedisCalls,
        check_after: float,
    ) -> None:
        self._address = address
        self._options = options
        self._options_to_ask = options_to_ask
        self._calls = calls
        self._check_after = check_after
        self._client: Redis | None = None
        self._node: tuple[str, int] | None = None
        self._found_at = 0.0
        self._is_connected = False

    def get(self) -> Redis:
        """Return the client of the primary."""
        if self._client is not None and time.monotonic() - self._found_at > self._check_after:
            self._drop_if_replaced()
        if self._client is None:
            self._node = self._find()
            self._client, self._found_at = self._new_client(self._node), time.monotonic()
        return self._client

    def _drop_if_replaced(self) -> None:
        self._found_at = time.monotonic()
        with suppress(RedisError, OSError):  # without sentinels, the primary that is known goes on
            if self._find() != self._node:
                self.close()

    def note_failure(self) -> None:
        """Look for the primary anew."""
        self.close()

    def close(self) -> None:
        """Close the client."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _new_client(self, node: tuple[str, int]) -> Redis:
        host, port = node
        self._is_connected = False
        adopt = cast("Callable[[], None]", self._adopt)  # redis-py's annotation leaves out the connection
        return Redis(host=host, port=port, redis_connect_func=adopt, **self._options)

    def _adopt(self, connection: Any) -> None:
        if self._is_connected and (found := self._find()) != self._node:
            raise RedisConnectionError(f"another server is the primary now: {found}")
        self._is_connected = True
        connection.on_connect()
        fields = _replication(ask := partial(ask_on, connection))
        if fields.get("role") != "master":
            raise RedisConnectionError(f"the server is a {fields.get('role')}, and not a primary")
        _adopt(self._calls, fields["master_replid"], ask)

    def _find(self) -> tuple[str, int]:
        error: Exception = RedisConnectionError("there is no node to ask")
        for host, port in self._address.nodes:
            try:
                with Redis(host=host, port=port, **self._options_to_ask) as client:
                    return self._ask_for_primary(client)
            except (RedisError, OSError) as exc:
                error = exc
        raise error

    def _ask_for_primary(self, client: Redis) -> tuple[str, int]:
        return self._ask_sentinel(client) if self._address.kind == "sentinel" else self._ask_cluster(client)

    def _ask_sentinel(self, client: Redis) -> tuple[str, int]:
        found = _execute(client, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service)
        if found is None:
            raise RedisConnectionError(f"the sentinel doesn't know the service {self._address.service!r}")
        host, port = found
        return host.decode(), int(port)

    def _ask_cluster(self, client: Redis) -> tuple[str, int]:
        slot = int(_execute(client, "CLUSTER", "KEYSLOT", self._calls.keys[0]))
        for first, last, primary, *_ in _execute(client, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return primary[0].decode(), int(primary[1])
        raise RedisConnectionError(f"no node of the cluster has the slot {slot}")


def _execute(client: Redis, *words: object) -> Any:
    # In separate words redis-py doesn't know the command, and returns the answer as it is. Its own readings of answers
    # differ between its versions.
    return cast("Any", client).execute_command(*words)


def ask_on(connection: Any, *words: object) -> Any:
    """Send a command on a connection that is being made, and return the answer."""
    connection.send_command(*words)
    return connection.read_response()
