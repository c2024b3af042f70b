"""Which coding a client gets: RFC 9110 section 12.5.3, line by line."""

from __future__ import annotations

import pytest

from sse_trio._compression.accept_encoding import choose_coding, forbids_transform

OFFERED = ("zstd", "br", "gzip")


@pytest.mark.parametrize(
    ("accept_encoding", "coding"),
    [
        # none, or nothing that is offered
        ([], None),
        ([""], None),
        (["deflate, compress"], None),
        # the server's order where the client has no preference
        (["gzip, deflate, br, zstd"], "zstd"),
        (["gzip, deflate, br"], "br"),
        (["gzip"], "gzip"),
        (["gzip", "br"], "br"),
        (["*"], "zstd"),
        # the client's where it has one
        (["gzip;q=1.0, zstd;q=0.9, br;q=0.1"], "gzip"),
        (["gzip;q=0.001"], "gzip"),
        (["zstd;q=0.5, *;q=0.8"], "br"),
        (["*;q=0.1, gzip"], "gzip"),
        # what is excluded
        (["gzip;q=0"], None),
        (["zstd;q=0, br;q=0.000, *"], "gzip"),
        (["*;q=0"], None),
        (["*;q=0, gzip;q=0.2"], "gzip"),
        # identity
        (["identity"], None),
        (["identity, gzip;q=0.5"], None),
        (["identity;q=0.5, gzip;q=0.5"], "gzip"),
        (["identity;q=0, gzip"], "gzip"),
        (["identity;q=0"], None),
        # as it may be written
        ([" GZIP ; Q=0.5 ,, "], "gzip"),
        (["x-gzip"], "gzip"),
        # malformed weights that clients do send, read as in Accept
        (["gzip;q=2, br;q=.9"], "gzip"),
        (["gzip;q=2, br"], "br"),
        (["gzip;q=0.1234, br;q=0.1233"], "gzip"),
        (["gzip;q=1., br;q=.5"], "gzip"),
        # a malformed weight: its coding doesn't count
        (["gzip;q=-1, br;q=1e-5, zstd;level=3, *;q=nan"], None),
        (["gzip;q="], None),
    ],
)
def test_the_coding_of_a_client(accept_encoding: list[str], coding: str | None) -> None:
    """The client's weights come first, then the server's order; in doubt it is identity."""
    assert choose_coding(accept_encoding, OFFERED) == coding


def test_the_order_is_the_servers() -> None:
    """If the client likes several codings equally, the first one offered is used."""
    assert choose_coding(["zstd, br, gzip"], ("gzip", "zstd")) == "gzip"
    assert choose_coding(["zstd, br, gzip"], ()) is None


@pytest.mark.parametrize(
    ("cache_control", "forbids"),
    [
        ([], False),
        (["no-store"], False),
        (["no-store, No-Transform"], True),
        (["no-store", "no-transform"], True),
        (["x-no-transform"], False),
    ],
)
def test_no_transform(cache_control: list[str], forbids: bool) -> None:
    """The directive is one of a list, in any case."""
    assert forbids_transform(cache_control) is forbids
