# The values that pass between a hub and its store.

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_trio._wire.event import ServerSentEvent
from sse_trio.stores._protocol import EventId, StoredEvent, new_epoch, pack_event, unpack_event

text = st.text(st.characters(codec="utf-8", exclude_characters="\r"))
one_line = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"))
events = st.builds(
    ServerSentEvent,
    st.none() | text,
    event=st.none() | one_line,
    retry=st.none() | st.integers(0, 10**9),
    comment=st.none() | text,
)


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_every_text_is_an_id(text):
    """Any text that a client sends as its last id can be parsed, and turns into the same text again."""
    assert str(EventId.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("e-" + "1" * 198, None),
        ("e" * 199 + "-1", "e" * 197 + "..."),
        ("9" * 10**6, "9" * 197 + "..."),
        ("\ud800-1", "?-1"),
    ],
)
def test_what_is_too_much_of_an_id(text, cut):
    """An id that is too long, or that UTF-8 can't encode, costs no more than a short foreign one."""
    assert str(EventId.parse(text)) == (cut or text)


@given(st.text(st.characters(categories=["L", "N", "P"]), min_size=1), st.integers(0, 10**18 - 1))
def test_an_id_that_was_given_is_known_again(epoch, sequence):
    """Parsing an id that was sent gives the same id."""
    assert EventId.parse(str(EventId(epoch, sequence))) == EventId(epoch, sequence)


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "e-", "e-01", "e- 1", "e-+1", "e-1_0", "e-\xb2", "e-\u0661", "e-" + "9" * 19]
)
def test_what_was_never_given_is_foreign(text):
    """An id in any spelling but our own is foreign."""
    assert EventId.parse(text).sequence == -1


def test_ids_are_in_the_order_of_their_sequences():
    """Ids are ordered as numbers, not as text: 10 is after 9."""
    assert EventId("e", 9) < EventId("e", 10)


def test_epochs_are_not_given_twice():
    """Each history has its own name, without the dash that ends it in an id."""
    epochs = {new_epoch() for _ in range(100)}
    assert len(epochs) == 100
    assert not any("-" in epoch for epoch in epochs)


@given(events)
def test_an_event_is_unpacked_as_it_was_packed(event):
    """A store keeps all of an event, including line breaks, empty fields and comments."""
    assert unpack_event(pack_event(event)) == event


@given(events, st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_stored_event_is_sent_with_its_id(event, sep):
    """A stored event's wire form is that of the same event with an id, whose line comes first."""
    stored = StoredEvent(EventId("e", 7), "a", pack_event(event))
    with_id = ServerSentEvent(event.data, event=event.event, id="e-7", retry=event.retry, comment=event.comment)
    assert stored.event == with_id
    assert sorted(stored.encode(sep).split(sep.encode())) == sorted(with_id.encode(sep).split(sep.encode()))
    assert stored.encode(sep).startswith(b"id: e-7" + sep.encode())


def test_an_id_of_the_users_own_is_refused():
    """An event with its own id is refused, because the hub's ids are what gives events an order."""
    with pytest.raises(ValueError, match="put an id of your own into the data"):
        pack_event(ServerSentEvent("x", id="1"))


def test_a_separator_is_checked():
    """A line end that clients don't know is refused."""
    with pytest.raises(ValueError, match="sep must be"):
        StoredEvent(EventId("e", 7), "a", b"data: x\n\n").encode("\x0b")


def test_an_id_shows_what_it_is():
    """The repr of an id is the call that makes it."""
    assert repr(EventId("ab12cd34", 7)) == "EventId('ab12cd34', 7)"
