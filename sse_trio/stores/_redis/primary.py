# Where the primary of a hub is now, where that changes: the sentinels of a service say it, or the nodes of a cluster.
#
# Rule 1: it is asked for at each connection, and by a publish on one that was not checked for a second. A primary that
#         was replaced may go on taking events, because sentinels can't reach it or take seconds to tell it: all of them
#         are lost, so it must be left soon.
# Rule 2: the answer may be old, so the server itself is asked for its role before anything is sent to it.
# Rule 3: a hub is in one slot of a cluster, since all its keys have one hash tag. What the node says when the slot has
#         moved (MOVED, ASK, TRYAGAIN) is an error like any other: the call is sent again, on a new connection.

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from coredis import Redis
from coredis.exceptions import RedisError

from .url import RedisAddress

__all__ = ("Connect", "Node", "NotPrimaryError", "check_role", "find_primary")

Node: TypeAlias = tuple[str, int]
"""Host and port."""
Connect: TypeAlias = "Callable[[Node], AbstractAsyncContextManager[Redis[bytes]]]"


class NotPrimaryError(RedisError):
    """No primary is known, or the one that was named has another role."""


async def find_primary(address: RedisAddress, connect: Connect, key: str) -> Node:
    """Return where the primary is: of the service, or of the slot that has this key.

    The nodes are asked in order, and the first that knows it is believed. Raises what ``connect`` raises, or
    ``NotPrimaryError``, for the last one.
    """
    ask = _ask_sentinel if address.kind == "sentinel" else _ask_cluster
    error: Exception = NotPrimaryError("there is no node to ask")
    for node in address.nodes:
        try:
            async with connect(node) as client:
                return await ask(client, address.service or key)
        except (RedisError, OSError) as exc:
            error = exc
    raise error


async def check_role(client: Redis[bytes]) -> None:
    """Raise NotPrimaryError unless this server is a primary."""
    role = (await client.role()).role
    if role != "master":
        raise NotPrimaryError(f"the server is a {role}, and not a primary")


async def _ask_sentinel(client: Redis[bytes], service: str) -> Node:
    found = await client.sentinel_get_master_addr_by_name(service)
    if found is None:
        raise NotPrimaryError(f"the sentinel doesn't know the service {service!r}")
    return found


async def _ask_cluster(client: Redis[bytes], key: str) -> Node:
    slot = await client.cluster_keyslot(key)
    for (first, last), nodes in (await client.cluster_slots()).items():
        if first <= slot <= last:
            return nodes[0]["host"], nodes[0]["port"]
    raise NotPrimaryError(f"no node of the cluster has the slot {slot}")
