# A ttl: whatever publishes takes it, and refuses the same in the same words. What it does is tested with each of them.

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from sse_trio import open_hub
from sse_trio._cli.publish import publish
from sse_trio._publishing.body import JSON, parse_body
from sse_trio.publisher import Publisher
from sse_trio.stores import SQLiteStore

from .test_nonsense import public_callables

HUGE = 10**400
NO_TTLS = ["60", b"60", True, [], 0, -1, 1e-9, 0.0009, 1.1e10, math.nan, math.inf, -math.inf, HUGE, -HUGE, object()]
MESSAGE = r"^ttl must be a number of seconds, from 0.001 to 1e\+10, or None; got "


def by_hub(ttl: Any, *, many: bool) -> None:
    async def run() -> None:
        async with open_hub() as hub:
            await (hub.publish_many([("a", "x")], ttl=ttl) if many else hub.publish("a", "x", ttl=ttl))

    anyio.run(run)


def in_postgres(ttl: Any) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    from sse_trio.stores.postgres import PostgresStore

    PostgresStore("postgresql://localhost/shop").publish_in(None, "a", "x", ttl=ttl)  # type: ignore[call-overload]


def by_http(ttl: Any) -> None:
    try:
        body = json.dumps({"topic": "a", "data": "x", "ttl": ttl}, allow_nan=False)
    except (TypeError, ValueError):
        pytest.skip("not applicable: there is no such value in JSON")
    parse_body(JSON, body.encode())


WAYS: dict[str, Callable[[Any], object]] = {
    "hub": lambda ttl: by_hub(ttl, many=False),
    "hub, many": lambda ttl: by_hub(ttl, many=True),
    "publisher": lambda ttl: Publisher("none.sqlite").publish("a", "x", ttl=ttl),
    "publisher, many": lambda ttl: Publisher("none.sqlite").publish_many([("a", "x")], ttl=ttl),
    "SQLite": lambda ttl: SQLiteStore("none.sqlite").publish_in(None, "a", "x", ttl=ttl),  # type: ignore[call-overload]
    "PostgreSQL": in_postgres,
    "HTTP": by_http,
}


@pytest.mark.parametrize("ttl", NO_TTLS, ids=lambda ttl: repr(ttl)[:10])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_ttl_is_refused_in_the_same_words(way: str, ttl: object) -> None:
    """Whatever publishes, a ttl that is not a positive, finite number of seconds is refused, and nothing is written."""
    with pytest.raises((TypeError, ValueError), match=MESSAGE):
        WAYS[way](ttl)
    assert not Path("none.sqlite").exists()


def test_whatever_publishes_takes_one() -> None:
    """Each public function that publishes has a ttl, which is None unless it is given."""
    ways = {name: thing for name, thing in public_callables() if name.rpartition(".")[2].startswith("publish")}
    ways["sse-trio publish"] = publish
    assert ways.pop("sse_trio.publish_endpoint")  # each of its events has one
    assert len(ways) >= 6, ways
    for name, function in ways.items():
        assert inspect.signature(function).parameters["ttl"].default is None, name
