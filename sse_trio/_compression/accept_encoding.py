# Which coding a client is answered in: RFC 9110 section 12.5.3, on the values of header fields.
#
# Rule 1: the client's weights come first, and where they are equal the server's order.
# Rule 2: when in doubt the answer is identity, which everybody can read: no field, no legal weight, nothing in common,
#         and also for one that excludes identity and everything there is (an origin SHOULD answer it without a coding).

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

__all__ = ("choose_coding", "forbids_transform")

_Name = TypeVar("_Name", bound=str)

_WEIGHT = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")  # section 12.4.2


def choose_coding(accept_encoding: Iterable[str], offered: Sequence[_Name]) -> _Name | None:
    """Return the coding of ``offered``, in the order of the server's preference, that the client likes best.

    ``None`` is identity: no value, none of them is acceptable, or identity has more weight than any.
    ``accept_encoding`` is the value of each such field of the request.
    """
    weights = _weights(",".join(accept_encoding))
    rest = weights.get("*", 0.0)
    coding = max(offered, key=lambda name: weights.get(name, rest), default=None)  # the first of equals
    if coding is None:
        return None
    weight = weights.get(coding, rest)
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
    if name.strip() != "q" or not _WEIGHT.fullmatch(value.strip()):
        return None
    return float(value)
