# Admission: the limits of a group, and the streams that they have admitted in one event loop.
#
# Rule 1: the cheapest check comes first. A full group refuses a stream without reading its request, because most
#         refusals happen in a storm of requests.
# Rule 2: a refusal changes only a counter and the time given to the next refused client. It takes no token and adds no
#         key.
# Rule 3: the table of keys has only keys with an open stream, because clients choose what keys there are. The tables
#         of fair_share.py are bounded by the rate.
# Rule 4: one client, as the key function identifies it, can neither use up the rate nor make the others wait. While the
#         bucket is less than half full, each client gets its share (fair_share.py), and a client that asks again before
#         its turn does not lengthen the queue. Without a key function the group can't tell clients apart.
# Rule 5: nothing here waits. A refused client gets a Retry-After, and the server keeps nothing for it.

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from random import randint, uniform
from typing import TYPE_CHECKING, TypeAlias

from .._arguments.checks import check_count, check_function, members_of, wrong
from .._errors import StreamRefusedError
from .._reasons import RefusalReason
from .._wire.returned import returned_key
from .fair_share import FairShare

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ("AcceptRate", "Admission", "KeyFunction", "Limits", "Place")

KeyFunction: TypeAlias = "Callable[[Request], Hashable]"

LONGEST_WAIT = 50.0
"""Seconds; a minute with the added fifth. Refused clients may never come back, and must not delay others for ever."""

LEAST_RATE, LARGEST_RATE = 1e-6, 1e9
"""Streams per second: one in eleven days, and more than any server can open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a group. StreamGroup documents them."""

    max_streams: int | None
    max_streams_per: tuple[KeyFunction, int] | None
    accept_rate: float | None
    retry_within: float
    """Seconds over which refused clients are spread when it is not known when a stream will end."""

    def __post_init__(self) -> None:
        if self.max_streams is not None:
            check_count("max_streams", self.max_streams, none=", or None for no limit")
        if self.max_streams_per is not None:
            _check_per(self.max_streams_per)
        if self.accept_rate is not None:
            _check_rate(self.accept_rate)

    def are_any(self) -> bool:
        """Whether there is a limit."""
        return not (self.max_streams is None and self.max_streams_per is None and self.accept_rate is None)


class Admission:
    """Applies the limits of a group in one event loop."""

    __slots__ = ("_limits", "_rate", "_shares", "keys", "refused")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rate = None if limits.accept_rate is None else AcceptRate(limits.accept_rate)
        self._shares = None if limits.accept_rate is None else FairShare(limits.accept_rate)
        self.keys: Counter[Hashable] = Counter()
        """Number of open streams, by key."""
        self.refused: Counter[RefusalReason] = Counter()

    def enter(self, open_streams: int, now: float, make_request: Callable[[], Request]) -> Place | None:
        """Admit one more stream.

        Args:
            open_streams: how many are open.
            now: the time of the loop's clock.
            make_request: makes the request, if the key function needs it.

        Returns:
            The stream's place among those of its key; ``None`` if it has no key.

        Raises:
            StreamRefusedError: the stream exceeds a limit.
            TypeError: the key function returned something that can't be a key.
        """
        limits, rate = self._limits, self._rate
        if limits.max_streams is not None and open_streams >= limits.max_streams:
            raise self._refused(RefusalReason.MAX_STREAMS)
        if rate is not None and not rate.has_token(now):
            raise self._refused(RefusalReason.ACCEPT_RATE, self._turn(rate, now, make_request))
        key = None if limits.max_streams_per is None else self._key(limits.max_streams_per, make_request)
        if rate is not None:
            self._take_token(rate, key, now)
        return None if key is None else Place(self.keys, key)

    def _key(self, per: tuple[KeyFunction, int], make_request: Callable[[], Request]) -> Hashable:
        key_function, most = per
        key = _key_of(key_function, make_request())
        if key is not None and self.keys[key] >= most:
            raise self._refused(RefusalReason.MAX_STREAMS_PER)
        return key

    def _take_token(self, rate: AcceptRate, key: Hashable, now: float) -> None:
        shares = self._shares
        if key is not None and shares is not None:
            wait = shares.wait_of(key, now) if rate.is_scarce() else 0.0
            if wait > 0:
                raise self._refused(RefusalReason.ACCEPT_RATE, wait)
            shares.take(key, now)
        rate.take_token()

    def _turn(self, rate: AcceptRate, now: float, make_request: Callable[[], Request]) -> float:
        # While the queue is short the key function is not called. In a storm it is most of the cost of a refusal.
        per, shares = self._limits.max_streams_per, self._shares
        if per is None or shares is None or rate.queue(now) <= self._limits.retry_within:
            return rate.next_turn(now)
        key = _key_of(per[0], make_request())
        given = None if key is None else shares.turn_of(key, now)
        if given is not None:
            return given
        wait = rate.next_turn(now)
        if key is not None and wait < LONGEST_WAIT:
            shares.give_turn(key, now + wait)
        return wait

    def _refused(self, reason: RefusalReason, wait: float | None = None) -> StreamRefusedError:
        self.refused[reason] += 1
        if wait is None:
            return StreamRefusedError(reason, randint(1, math.ceil(self._limits.retry_within)))  # noqa: S311
        wait *= uniform(0.8, 1.2)  # noqa: S311 -- a spread, not a secret
        return StreamRefusedError(reason, max(1, math.ceil(wait)))  # with a clock far ahead, a turn may round to 0


class Place:
    """The place of one stream among the streams of its key."""

    __slots__ = ("_key", "_keys")

    def __init__(self, keys: Counter[Hashable], key: Hashable) -> None:
        self._keys = keys
        self._key = key
        keys[key] += 1

    def leave(self) -> None:
        """Give the place up. Call it once."""
        self._keys[self._key] -= 1
        if not self._keys[self._key]:
            del self._keys[self._key]


class AcceptRate:
    """A token bucket. Each stream takes a token; the bucket holds the tokens of one second, and at least one.

    A refused client gets a turn, as if all refused clients stood in a queue. The queue only spreads them over time:
    it takes no tokens, because they may not come back.
    """

    __slots__ = ("_filled_at", "_most", "_per_second", "_tokens", "_turns_until")

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = self._tokens = max(1.0, per_second)
        self._filled_at = self._turns_until = -math.inf

    def has_token(self, now: float) -> bool:
        """Whether a stream may be opened now."""
        self._tokens = min(self._most, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        return self._tokens >= 1

    def is_scarce(self) -> bool:
        """Whether taking one more token would leave the bucket less than half full."""
        return self._tokens - 1 < self._most / 2

    def take_token(self) -> None:
        """Take a token. Call it after has_token() returned True."""
        self._tokens -= 1

    def queue(self, now: float) -> float:
        """Return the seconds until the last turn in the queue."""
        return max(self._turns_until - now, 0.0)

    def next_turn(self, now: float) -> float:
        """Add a refused client to the queue, and return the seconds until its turn."""
        self._turns_until = min(max(self._turns_until, now) + 1 / self._per_second, now + LONGEST_WAIT)
        return self._turns_until - now


def _check_per(value: object) -> None:
    pair = members_of(value)
    if len(pair) != 2:
        raise wrong(TypeError, "max_streams_per", "a pair of a key function and a number, as in (user_of, 5)", value)
    # If it takes time to identify the client, a middleware does it, and the function reads request.user or .state.
    check_function("the key function of max_streams_per", pair[0], "a plain function of the request")
    check_count("the number of max_streams_per", pair[1])


def _check_rate(value: object) -> None:
    wanted = f"a positive number of streams per second, from {LEAST_RATE} to {LARGEST_RATE}, or None for no limit"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong(TypeError, "accept_rate", wanted, value)
    if not LEAST_RATE <= value <= LARGEST_RATE:
        raise wrong(ValueError, "accept_rate", wanted, value)


def _key_of(key_function: KeyFunction, request: Request) -> Hashable:
    wanted = "return a str, an int or a tuple that identifies the client, or None if it has no limit"
    return returned_key("the key function of max_streams_per", key_function(request), wanted)
