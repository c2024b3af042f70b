# Which content coding a response gets, by the request's Accept-Encoding (RFC 9110 section 12.5.3).
#
# Rule 1: the client's weights decide; between equal weights, the server's order does.
# Rule 2: in doubt the answer is identity, which every client can read: with no field, no legal weight or no coding in
#         common, and for a client that excludes identity and all codings on offer (an origin SHOULD then use none).
# Rule 3: a weight is read as in Accept: _requests/headers.py, read_weight().

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from .._requests.headers import read_weight

__all__ = ("choose_coding", "forbids_transform")

_Name = TypeVar("_Name", bound=str)


def choose_coding(accept_encoding: Iterable[str], offered: Sequence[_Name]) -> _Name | None:
    """Return the coding that the client likes best of those on offer; ``None`` for identity.

    Args:
        accept_encoding: the values of the request's ``Accept-Encoding`` fields.
        offered: the codings on offer, in the server's order of preference.
    """
    weights = _weights(",".join(accept_encoding))
    others = weights.get("*", 0.0)
    coding = max(offered, key=lambda name: weights.get(name, others), default=None)  # the first of equals
    if coding is None:
        return None
    weight = weights.get(coding, others)
    return coding if weight and weight >= weights.get("identity", 0.0) else None


def forbids_transform(cache_control: Iterable[str]) -> bool:
    """Whether ``Cache-Control`` says ``no-transform`` (RFC 9111 sections 5.2.1.6 and 5.2.2.6)."""
    directives = ",".join(cache_control).lower().split(",")
    return any(directive.strip() == "no-transform" for directive in directives)


def _weights(value: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for member in value.lower().split(","):
        name, _, parameter = member.partition(";")
        weight = _weight(parameter)
        if weight is not None:
            weights[name.strip().replace("x-gzip", "gzip")] = weight  # the same, says section 8.4.1.3
    return weights


def _weight(parameter: str) -> float | None:
    if not parameter.strip():
        return 1.0
    name, _, value = parameter.partition("=")
    return read_weight(value.strip()) if name.strip() == "q" else None
