# Names: of the schema, of the hub, of the channel that wakes its followers; and how text is kept. No I/O.
#
# Rule 1: a schema's name stands in SQL as it is, so only names that need no quotes are taken.
# Rule 2: PostgreSQL's text can't have NUL, and topics, tokens and keys can. NUL and U+0001, which stands for it, are
#         each kept as two characters. What names begin with stays what they begin with, so prefixes can be searched.

from __future__ import annotations

import re
from hashlib import sha256
from typing import cast

from ..._arguments.checks import check_text, wrong

__all__ = ("OF_TOPIC", "channel_of", "check_hub_name", "check_schema", "digest_of", "from_text", "to_text")

OF_TOPIC = "hub = %s AND left(topic, 600) = left(%s, 600) AND topic = %s"
"""The rows of one topic of a hub, whose values are the hub and twice the topic: an index has its first characters."""
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_LONGEST_HUB = 200  # characters: the name is in an index


def check_schema(schema: str) -> str:
    """Return the name of the schema. TypeError or ValueError for one that would need quotes in SQL."""
    wanted = 'a str of a-z, 0-9 and _, such as "sse_trio"'
    if not isinstance(cast("object", schema), str):
        raise wrong(TypeError, "schema", wanted, schema)
    if not _SCHEMA.fullmatch(schema):
        raise wrong(ValueError, "schema", wanted, schema)
    return schema


def check_hub_name(name: str) -> str:
    """Return the name of a hub. TypeError or ValueError for an empty or a long one, or one with NUL."""
    wanted = f"a str of 1 to {_LONGEST_HUB} characters without NUL"
    check_text("name", name, wanted)
    if not 0 < len(name) <= _LONGEST_HUB or "\0" in name:
        raise wrong(ValueError, "name", wanted, name)
    return name


def channel_of(schema: str, hub: str) -> str:
    """Return the channel of NOTIFY on which the followers of a hub are woken. SQL computes the same (schema.py)."""
    return f"sse_trio_{sha256(f'{schema}/{hub}'.encode()).hexdigest()[:32]}"


def digest_of(producer: str) -> bytes:
    """Return what is kept of a key's producer, which may be long."""
    return sha256(producer.encode()).digest()


def to_text(text: str) -> str:
    """Return the text as it is kept."""
    if "\0" in text or "\1" in text:
        return text.replace("\1", "\1\2").replace("\0", "\1\1")
    return text


def from_text(text: str) -> str:
    """Return the text that was kept."""
    if "\1" in text:
        return re.sub("\1(.)", lambda pair: "\0" if pair[1] == "\1" else "\1", text)
    return text
