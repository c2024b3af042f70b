# Shares of a rate: how soon one client may have another while there is not enough, and that the tables stay small.

from __future__ import annotations

import pytest

from sse_trio._groups.fair_share import FairShare


def test_each_has_its_part():
    """Of a rate of 100, one client may use all, two clients half each, and four a quarter each, spread evenly."""
    shares = FairShare(100)
    for clients, apart in ((1, 0.01), (2, 0.02), (4, 0.04)):
        for key in range(clients):
            shares.take(key, 0.0)
        assert shares.wait_of(0, 0.0) == pytest.approx(apart)
        assert shares.wait_of(0, apart) <= 1e-9


def test_everybody_may_have_one():
    """However many clients there are, each may open one stream at once, and another after a second."""
    shares = FairShare(10)
    for key in range(1000):
        assert shares.wait_of(key, 0.0) <= 0
        shares.take(key, 0.0)
    assert shares.wait_of(0, 0.0) == pytest.approx(1)
    assert shares.wait_of(0, 1.0) <= 0


def test_of_a_low_rate():
    """If a share is less than one per second, one client gets the full rate, and two get half of it each."""
    shares = FairShare(0.5)
    shares.take("ann", 0.0)
    assert shares.wait_of("ann", 0.0) == pytest.approx(2)
    shares.take("bob", 0.0)
    assert shares.wait_of("ann", 0.0) == pytest.approx(4)


def test_what_was_taken_is_forgotten():
    """A share counts for one second, and then its client is forgotten."""
    shares = FairShare(100)
    for number in range(1000):
        shares.take(f"key {number}" + "x" * 8000, number / 100)
        assert len(shares) <= 101
    assert shares.wait_of("ann", 1000.0) == 0
    assert len(shares) == 0


def test_a_turn_is_told_once():
    """A client that asks again before its turn gets the same turn; after its turn it has none."""
    shares = FairShare(100)
    assert shares.turn_of("ann", 0.0) is None
    shares.give_turn("ann", 5.0)
    shares.give_turn("bob", 6.0)
    assert shares.turn_of("ann", 2.0) == pytest.approx(3.0)
    assert shares.turn_of("ann", 5.0) is None
    assert shares.turn_of("bob", 5.0) == pytest.approx(1.0)
    assert len(shares) == 1
