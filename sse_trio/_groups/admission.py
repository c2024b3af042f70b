# Which streams a group takes in: the limits as they were given, and what they have let in so far in one event loop.
#
# Rule 1: what is asked first is what costs least. A group that is full answers without looking at the request, since a
#         storm is when it is asked most.
# Rule 2: a refusal changes nothing but a counter and the time that the next one is told. It takes no token and no key.
# Rule 3: the table of keys holds those that have a stream open, and no others: the keys are what clients say they are.
#         The rate bounds the tables of those that have had a share of it, or were told their turn
#         (_groups/fair_share.py).
# Rule 4: one client, as the key function knows it, can't use up the rate of all others, nor make them wait: while the
#         bucket is less than half full each gets its part of the rate and no more (_groups/fair_share.py); and asking
#         again before its turn makes no queue longer. Without a key function nobody can be told from anybody else.
# Rule 5: nothing here waits. Who is over a limit is told when to come again, and the server holds nothing for it.

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
"""Seconds; with the fifth that is added, a minute. Those who never come again must not make others wait for ever."""

LEAST_RATE, LARGEST_RATE = 1e-6, 1e9
"""Streams a second: one in eleven days, and more than there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a group was told; what each means is documented there."""

    max_streams: int | None
    max_streams_per: tuple[KeyFunction, int] | None
    accept_rate: float | None
    retry_within: float
    """Seconds over which those who were refused are spread, where nobody knows when there will be room."""

    def __post_init__(self) -> None:
        if self.max_streams is not None:
            check_count("max_streams", self.max_streams, none=", or None for no limit")
        if self.max_streams_per is not None:
            _check_per(self.max_streams_per)
        if self.accept_rate is not None:
            _check_rate(self.accept_rate)

    def are_any(self) -> bool:
        """Whether there is anything to be checked."""
        return not (self.max_streams is None and self.max_streams_per is None and self.accept_rate is None)


class Admission:
    """The limits of a group at work in one event loop."""

    __slots__ = ("_limits", "_rate", "_shares", "keys", "refused")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rate = None if limits.accept_rate is None else AcceptRate(limits.accept_rate)
        self._shares = None if limits.accept_rate is None else FairShare(limits.accept_rate)
        self.keys: Counter[Hashable] = Counter()
        """How many streams are open, by key."""
        self.refused: Counter[RefusalReason] = Counter()

    def enter(self, open_streams: int, now: float, make_request: Callable[[], Request]) -> Place | None:
        """Let one more stream in; return its place among those of its key, if it has one.

        Raises:
            StreamRefusedError: it is one too many.
            TypeError: the key function returned what can't be a key.
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
        # While the queue is short nobody is asked who that is: in a storm that is most of what a refusal costs.
        per, shares = self._limits.max_streams_per, self._shares
        if per is None or shares is None or rate.queue(now) <= self._limits.retry_within:
            return rate.next_turn(now)
        key = _key_of(per[0], make_request())
        told = None if key is None else shares.turn_of(key, now)
        if told is not None:
            return told
        wait = rate.next_turn(now)
        if key is not None and wait < LONGEST_WAIT:
            shares.tell(key, now + wait)
        return wait

    def _refused(self, reason: RefusalReason, wait: float | None = None) -> StreamRefusedError:
        self.refused[reason] += 1
        if wait is None:
            return StreamRefusedError(reason, randint(1, math.ceil(self._limits.retry_within)))  # noqa: S311
        wait *= uniform(0.8, 1.2)  # noqa: S311 -- spread, no secret
        return StreamRefusedError(reason, max(1, math.ceil(wait)))  # of a clock far ahead turns may be too short


class Place:
    """The place of one stream among those of its key."""

    __slots__ = ("_key", "_keys")

    def __init__(self, keys: Counter[Hashable], key: Hashable) -> None:
        self._keys = keys
        self._key = key
        keys[key] += 1

    def leave(self) -> None:
        """Leave it, once."""
        self._keys[self._key] -= 1
        if not self._keys[self._key]:
            del self._keys[self._key]


class AcceptRate:
    """A bucket of tokens, one for each stream: it holds those of one second, and at least one.

    Who finds it empty is told to come when it is its turn, as if all who were refused stood in a queue. They may not
    come; the queue only spreads them, and takes no token out.
    """

    __slots__ = ("_filled_at", "_most", "_per_second", "_tokens", "_turns_until")

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = self._tokens = max(1.0, per_second)
        self._filled_at = self._turns_until = -math.inf

    def has_token(self, now: float) -> bool:
        """Whether one more stream may be opened now."""
        self._tokens = min(self._most, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        return self._tokens >= 1

    def is_scarce(self) -> bool:
        """Whether less than half of the bucket would be left without one more."""
        return self._tokens - 1 < self._most / 2

    def take_token(self) -> None:
        """Take one that was there."""
        self._tokens -= 1

    def queue(self, now: float) -> float:
        """Return the seconds until the turn of the one that was refused last."""
        return max(self._turns_until - now, 0.0)

    def next_turn(self, now: float) -> float:
        """Return the seconds until the turn of one more that was refused."""
        self._turns_until = min(max(self._turns_until, now) + 1 / self._per_second, now + LONGEST_WAIT)
        return self._turns_until - now


def _check_per(value: object) -> None:
    pair = members_of(value)
    if len(pair) != 2:
        raise wrong(TypeError, "max_streams_per", "a pair of a key function and a number, as in (user_of, 5)", value)
    # To find out who it is may take time: that is for a middleware, and request.user, request.state or .session say it.
    check_function("the key function of max_streams_per", pair[0], "a plain function of the request")
    check_count("the number of max_streams_per", pair[1])


def _check_rate(value: object) -> None:
    wanted = f"a positive number of streams per second, from {LEAST_RATE} to {LARGEST_RATE}, or None for no limit"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong(TypeError, "accept_rate", wanted, value)
    if not LEAST_RATE <= value <= LARGEST_RATE:
        raise wrong(ValueError, "accept_rate", wanted, value)


def _key_of(key_function: KeyFunction, request: Request) -> Hashable:
    wanted = "return who it is, as a str, an int or a tuple, or None for who has no limit"
    return returned_key("the key function of max_streams_per", key_function(request), wanted)
