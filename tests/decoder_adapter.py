"""The decoder in the shape that event-stream conformance runners call: chunks in, (type, data, id, retry) out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sse_trio._wire.decoder import EventDecoder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

State = dict[str, int | str | None]


def decode(chunks: Iterable[bytes], content_type: str) -> Generator[tuple[str, str, str, int | None], None, State]:
    """Yield each event as soon as its bytes are there; return what a reconnection would start from."""
    del content_type  # always UTF-8, whatever it says
    decoder = EventDecoder()
    for chunk in chunks:
        for event in decoder.feed(chunk):
            yield event.event, event.data, event.id, None
    return {"retry_ms": decoder.retry, "last_event_id": decoder.last_event_id}
