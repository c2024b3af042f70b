"""The query of a request: the URL's, the client's parameters, and those of the call."""

from __future__ import annotations

import pytest

from sse_trio.client import open_event_source


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "params", "of_client", "requested"),
    [
        ("/s", None, None, "/s"),
        ("/s?a=1", None, None, "/s?a=1"),
        ("/s?a=1", {}, {}, "/s?a=1"),
        ("/s", {"b": 2}, None, "/s?b=2"),
        ("/s?a=1", {"b": "2"}, None, "/s?a=1&b=2"),
        ("/s?a=1", None, {"c": "3"}, "/s?a=1&c=3"),
        ("/s?a=1", {"b": "2"}, {"c": "3"}, "/s?a=1&c=3&b=2"),
        ("/s?a=1&x=y&a=2", {"a": ["3", 4], "n": None}, None, "/s?x=y&a=3&a=4&n="),
        ("/s?a=1", {"b": True}, {"a": "0", "b": "0"}, "/s?a=1&b=true"),
        ("/s?flag&sig=a%2Fb+c%20d&", {"q": "a b&"}, None, "/s?flag&sig=a%2Fb+c%20d&q=a+b%26"),
        ("/s?a%20b=1", {"a b": "2"}, None, "/s?a+b=2"),
        ("/s?a=1#part", {"b": "2"}, None, "/s?a=1&b=2"),
    ],
)
async def test_all_parameters_are_sent(serve, stream, url, params, of_client, requested):
    """All parameters are sent; the call's win over the URL's, and those over the client's."""
    server = serve(stream(status=204))
    async with server.client(params=of_client) as client, open_event_source(url, client=client, params=params):
        pass
    assert [request.url.raw_path.decode() for request in server.requests] == [requested]
