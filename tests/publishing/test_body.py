"""The body of a request to publish: JSON or a form, and everything that is neither."""

from __future__ import annotations

import pytest

from sse_trio import ServerSentEvent
from sse_trio._publishing.body import FORM, JSON, parse_body


@pytest.mark.parametrize(
    ("media_type", "body", "events", "is_list"),
    [
        (JSON, '{"topic":"a","data":"x"}', [("a", ServerSentEvent("x"))], False),
        (JSON, '{"topic":"a","data":{"n":[1,null]}}', [("a", ServerSentEvent('{"n":[1,null]}'))], False),
        (JSON, '{"topic":"a","data":null}', [("a", ServerSentEvent("null"))], False),
        (JSON, '{"topic":"a","data":7}', [("a", ServerSentEvent("7"))], False),
        (JSON, '{"topic":"a","data":true}', [("a", ServerSentEvent("true"))], False),
        (
            JSON,
            '{"topic":"a","data":"x\\ny","event":"e","retry":5}',
            [("a", ServerSentEvent("x\ny", event="e", retry=5))],
            False,
        ),
        (JSON, '{"topic":"a","data":"x","event":null}', [("a", ServerSentEvent("x"))], False),
        (JSON, '[{"topic":"a","data":"x"}]', [("a", ServerSentEvent("x"))], True),
        (FORM, "topic=a&data=x", [("a", ServerSentEvent("x"))], False),
        (
            FORM,
            "topic=a%2Fb&data=%C3%A9+1&event=e&retry=5",
            [("a/b", ServerSentEvent("é 1", event="e", retry=5))],
            False,
        ),
        (FORM, "topic=a&data=", [("a", ServerSentEvent(""))], False),
        (FORM, "topic=a&data=x&topic=b&data=y", [("a", ServerSentEvent("x")), ("b", ServerSentEvent("y"))], True),
    ],
)
def test_what_is_published(media_type, body, events, is_list):
    """Each form of a body, and the events that it stands for."""
    assert parse_body(media_type, body.encode()) == (events, [None] * len(events), is_list)


@pytest.mark.parametrize(
    ("media_type", "body", "ttls"),
    [
        (JSON, '{"topic":"a","data":"x","ttl":60}', [60]),
        (JSON, '{"topic":"a","data":"x","ttl":6e1}', [60]),
        (JSON, '{"topic":"a","data":"x","ttl":null}', [None]),
        (JSON, '[{"topic":"a","data":"x","ttl":0.001},{"topic":"a","data":"x"}]', [0.001, None]),
        (FORM, "topic=a&data=x&ttl=60", [60]),
        (FORM, "topic=a&ttl=0.5&data=x", [0.5]),
        (FORM, "topic=a&data=x&topic=b&data=y&ttl=10000000000", [None, 1e10]),
    ],
)
def test_each_event_has_its_ttl(media_type, body, ttls):
    """Each event of a body may say after how many seconds it expires."""
    assert parse_body(media_type, body.encode()).ttls == ttls


@pytest.mark.parametrize(
    ("media_type", "body", "message"),
    [
        (JSON, b"\xff", "must be UTF-8"),
        (JSON, b"", "must be JSON"),
        (JSON, b"{", "must be JSON"),
        (JSON, b"[" * 200_000, "must not be nested"),
        (JSON, b'{"topic":"a","data":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested"),
        (JSON, b'{"topic":"a","data":NaN}', "NaN is not JSON"),
        (JSON, b'{"topic":"a","data":1e999}', "JSON"),
        (JSON, b'{"topic":"a","data":' + b"1" * 5000 + b"}", "must be JSON|digits"),
        (JSON, b"[]", "got an empty list"),
        (JSON, b"7", "must be an object"),
        (JSON, b"[7]", "must be an object"),
        (JSON, b'{"topic":"a"}', "must have a topic and data"),
        (JSON, b'{"data":"x"}', "must have a topic and data"),
        (JSON, b'{"topic":"a","data":"x","id":"7"}', "fields of an event are data, event, retry, topic, ttl; got 'id'"),
        (JSON, b'{"topic":"a","data":"x","retry":"5"}', "retry must be"),
        (JSON, b'{"topic":"a","data":"x","retry":-1}', "retry must be"),
        (JSON, b'{"topic":"a","data":"x","event":"a\\nb"}', "event must"),
        (JSON, b'{"topic":"a","data":"x","event":7}', "event must"),
        (JSON, b'{"topic":"a","data":"\\ud800"}', "surrogate"),
        *[(JSON, b'{"topic":%s,"data":"x"}' % topic, "topic must be a str") for topic in (b"7", b"null", b"[]", b"{}")],
        (JSON, b'{"topic":"","data":"x"}', "a topic to publish to must be"),
        *[
            (
                JSON,
                b'{"topic":"a","data":"x","ttl":%s}' % ttl,
                r"ttl must be a number of seconds, from 0.001 to 1e\+10, or",
            )
            for ttl in (b"0", b"-1", b"0.0009", b"1e11", b"1e999", b"true", b'"60"', b"[]", b"1" + b"0" * 400)
        ],
        *[
            (
                FORM,
                b"topic=a&data=x&ttl=%s" % ttl,
                r"ttl must be a number of seconds, from 0.001 to 1e\+10, or None; got",
            )
            for ttl in (b"", b"0", b"-1", b"nan", b"inf", b"60s", b"1_0", b"\xd9\xa1", b"1" * 5000)
        ],
        (FORM, b"", "must have a topic"),
        (FORM, b"data=x&topic=a", "must begin with a topic; got 'data'"),
        (FORM, b"topic=a&data=x&data=y", "one 'data'"),
        (FORM, b"topic=a&data=x&retry=soon", "retry must be"),
        (FORM, b"topic=a&data=x&retry=" + b"1" * 5000, "retry must be"),
        (FORM, b"topic=a&" * 50_000, "fields"),
    ],
)
def test_what_makes_no_sense(media_type, body, message):
    """Whatever else comes is a ValueError that says what is wrong."""
    with pytest.raises(ValueError, match=message):
        parse_body(media_type, body)


def test_data_of_any_depth_is_read_or_refused():
    """Data that is just too deep to be written as JSON again is refused as what is too deep to be read."""
    refused = set()
    for depth in range(800, 1000):  # somewhere in it, reading ends, and writing before it
        body = b'{"topic":"a","data":' + b"[" * depth + b"]" * depth + b"}"
        try:
            parse_body(JSON, body)
        except ValueError as exc:
            refused.add(str(exc))
    assert refused <= {"the body must not be nested as deeply"}
