# Moments of the calendar: a datetime, or the number that a token has in its `exp` (RFC 7519 section 4.1.4).

from __future__ import annotations

import datetime
import math

from .checks import wrong

__all__ = ("seconds_since_1970",)


def seconds_since_1970(name: str, moment: object) -> float:
    """Return the moment as a number.

    Raises:
        TypeError: it is neither a datetime nor a number.
        ValueError: it is a datetime without a time zone, which could be any of 38 moments, or not finite.
    """
    wanted = "an aware datetime, such as datetime.now(timezone.utc) + timedelta(hours=1), or seconds since 1970"
    if isinstance(moment, datetime.datetime):
        if moment.utcoffset() is None:
            raise wrong(ValueError, name, wanted, moment)
        return moment.timestamp()
    if not isinstance(moment, (int, float)) or isinstance(moment, bool):
        raise wrong(TypeError, name, wanted, moment)
    try:
        seconds = float(moment)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise wrong(ValueError, name, wanted, moment)
    return seconds
