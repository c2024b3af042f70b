"""The buffers of a channel: their order, their bytes, and what they count."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from sse_trio import ServerSentEvent
from sse_trio._channels.buffer import Buffer, ConflatingBuffer, FifoBuffer, Queued, encode_queued, size_of

SEPS = pytest.mark.parametrize("sep", ["\n", "\r\n", "\r"])

PLAIN: list[Queued] = ["", "one", "two"]
EVENTS: list[Queued] = [ServerSentEvent("drei\nZeilen"), ServerSentEvent("Grüße", id="1")]


def put(buffer: Buffer, event: Queued, sep: str = "\n") -> bool:
    """Put as a channel does."""
    return buffer.put(event, size_of(event, sep), buffer.key_of(event))


def data_of(event: Queued) -> str | None:
    """The data of what is held."""
    return event if isinstance(event, str) else event.data


def make_conflating() -> Buffer:
    """A conflating buffer in which nothing conflates."""
    return ConflatingBuffer(lambda _: None)


BOTH = pytest.mark.parametrize("make", [FifoBuffer, make_conflating])


@SEPS
@pytest.mark.parametrize("event", [*PLAIN, *EVENTS])
def test_size_is_that_of_the_bytes(event: Queued, sep: str) -> None:
    """The buffer knows the exact size of its events in bytes without encoding them."""
    wire = encode_queued(event, sep)
    assert size_of(event, sep) == len(wire)
    assert wire == ServerSentEvent(event).encode(sep) if isinstance(event, str) else event.encode(sep)


@BOTH
@SEPS
@pytest.mark.parametrize("events", [PLAIN, EVENTS, [*PLAIN, *EVENTS], EVENTS[:1], PLAIN[:1]])
def test_drain_gives_the_bytes_of_all(make: Callable[[], Buffer], events: list[Queued], sep: str) -> None:
    """drain() returns the bytes of every event in order, plain text or not, and leaves the buffer empty."""
    buffer = make()
    for event in events:
        assert not put(buffer, event, sep)
    assert buffer.size == sum(size_of(event, sep) for event in events)
    assert buffer.drain(sep) == b"".join(encode_queued(event, sep) for event in events)
    assert (len(buffer), buffer.size) == (0, 0)


@BOTH
def test_pop_gives_the_oldest(make: Callable[[], Buffer]) -> None:
    """Events are popped in the order in which they were put, even after earlier pops and drains."""
    buffer = make()
    rng, put_in, taken_out = random.Random(1), [], []
    for n in range(300):
        put(buffer, str(n))
        put_in.append(str(n))
        while len(buffer) and rng.random() < 0.5:
            taken_out.append(buffer.pop("\n"))
        if len(buffer) and rng.random() < 0.05:
            lines = buffer.drain("\n").decode().splitlines()
            taken_out += [line.removeprefix("data: ") for line in lines if line]
        assert buffer.size == sum(size_of(data, "\n") for data in put_in[len(taken_out) :])
    assert taken_out == put_in[: len(taken_out)]
    assert len(taken_out) > 200


@BOTH
def test_pop_of_nothing(make: Callable[[], Buffer]) -> None:
    """Popping from an empty buffer returns no event."""
    with pytest.raises(IndexError):
        make().pop("\n")


@BOTH
def test_measure(make: Callable[[], Buffer]) -> None:
    """With another line end, the size counts the bytes of that line end."""
    buffer = make()
    for event in [*PLAIN, *EVENTS]:
        put(buffer, event)
    buffer.measure("\r\n")
    assert buffer.size == sum(size_of(event, "\r\n") for event in [*PLAIN, *EVENTS])
    while len(buffer):
        buffer.pop("\r\n")
    assert buffer.size == 0


def test_conflating_by_key() -> None:
    """An event with the same key is replaced at its position, and the size is updated."""
    buffer = ConflatingBuffer(lambda event: event.event)
    assert buffer.size_at("a") is None
    assert not put(buffer, ServerSentEvent("1", event="a"))
    assert not put(buffer, ServerSentEvent("1", event="b"))
    assert put(buffer, ServerSentEvent("12345", event="a"))
    assert buffer.size_at("a") == len(b"event: a\ndata: 12345\n\n")
    assert buffer.size == len(b"event: a\ndata: 12345\n\nevent: b\ndata: 1\n\n")
    assert [data_of(buffer.pop("\n")), data_of(buffer.pop("\n"))] == ["12345", "1"]
    assert buffer.size == 0


def test_key_none_is_nobodys() -> None:
    """Events without a key never conflate, not even with each other."""
    buffer = make_conflating()
    assert not put(buffer, "same")
    assert not put(buffer, "same")
    assert buffer.size_at(None) is None
    assert len(buffer) == 2


def test_plain_queue_has_no_keys() -> None:
    """Without conflation, no event has a key."""
    buffer = FifoBuffer()
    put(buffer, "event")
    assert buffer.key_of("event") is None
    assert buffer.size_at("event") is None
