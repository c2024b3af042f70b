"""publish_endpoint(): who may publish by HTTP, and what each request is answered."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import fastapi
import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route
from starlette.websockets import WebSocketDisconnect

from sse_trio import open_hub, publish_endpoint
from sse_trio.stores import MemoryStore, TopicFilter
from sse_trio.testing import StreamingASGITransport

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def client_of(endpoint):
    app = Starlette(routes=[Route("/publish", endpoint)])
    async with httpx.AsyncClient(transport=StreamingASGITransport(app), base_url="http://localhost") as client:
        yield client


@asynccontextmanager
async def hub_and_client(store=None, **options):
    options.setdefault("authorize", lambda request: True)
    async with open_hub(store) as hub, client_of(publish_endpoint(hub, **options)) as client:
        yield hub, client


EVENT = {"topic": "news", "data": "hello"}


async def test_one_event_and_many():
    """One event is answered with its id, a list with a list of ids, and subscribers get them."""
    async with hub_and_client() as (hub, client), hub.subscribe("*") as subscription:
        one = await client.post("/publish", json={**EVENT, "event": "headline"})
        many = await client.post("/publish", json=[EVENT, {"topic": "news", "data": {"n": 1}}])
        form = await client.post("/publish", data=EVENT)
        assert [answer.status_code for answer in (one, many, form)] == [200, 200, 200]
        received = [await subscription.receive() for _ in range(4)]
    assert [event.data for event in received] == ["hello", "hello", '{"n":1}', "hello"]
    assert [event.id for event in received] == [one.json()["id"], *many.json()["ids"], form.json()["id"]]
    assert received[0].event == "headline"


async def test_an_event_may_expire():
    """Each event of a request may have a ttl: who comes after that many seconds is not sent it, and that is no gap."""
    async with hub_and_client() as (hub, client):
        short, long = {**EVENT, "data": "short", "ttl": 5}, {**EVENT, "data": "long", "ttl": 50.5}
        many = await client.post("/publish", json=[short, long, EVENT])
        form = await client.post("/publish", data={**short, "data": "form"})
        assert [len(many.json()["ids"]), form.status_code] == [3, 200]
        for seconds, expected in (
            (4.9, ["short", "long", "hello", "form"]),
            (0.2, ["long", "hello"]),
            (46, ["hello"]),
        ):
            await anyio.sleep(seconds)
            history = await hub.history("*")
            assert [event.data for event in history.events] == expected
            assert not history.has_gap


async def test_a_store_whose_events_cannot_expire(make_remote_store):
    """On a store of the user's own without expiry_clock() a ttl is refused, and nothing of the request is published."""
    async with hub_and_client(store := make_remote_store()) as (hub, client):
        answer = await client.post("/publish", json=[EVENT, {**EVENT, "ttl": 5}])
        assert (answer.status_code, hub.statistics().published) == (400, 0)
        assert answer.text.startswith("ttl must be None: events can't expire in the store of this hub")
        assert (await store.read_last(TopicFilter("*"), 100)).events == ()


async def test_a_request_may_be_sent_again():
    """With an Idempotency-Key the same request publishes once and has the same answer; without one, twice."""
    async with hub_and_client(store := MemoryStore()) as (_, client):
        for headers, count in (
            ({b"idempotency-key": "7 \u00e9".encode()}, 1),
            ({b"idempotency-key": b"8"}, 2),
            ({}, 4),
        ):
            answers = [await client.post("/publish", json=[EVENT], headers=headers) for _ in range(2)]
            assert (answers[0].json() == answers[1].json()) is bool(headers)
            assert len((await store.read_last(TopicFilter("*"), 100)).events) == count
        for key in (b"", b"x" * 201):
            answer = await client.post("/publish", json=EVENT, headers={"idempotency-key": key})
            assert (answer.status_code, "Idempotency-Key" in answer.text) == (400, True)


async def deny(request):
    return False


async def ask_for_a_password(request):
    raise HTTPException(401, headers={"www-authenticate": "Basic"})


@pytest.mark.parametrize(
    ("authorize", "status"),
    [
        (None, 403),
        (lambda request: False, 403),
        (lambda request: 1, 403),
        (lambda request: None, 403),
        (deny, 403),
        (ask_for_a_password, 401),
        (lambda request: request.headers.get("authorization") == "Bearer secret", 200),
    ],
)
async def test_who_may_publish(authorize, status):
    """Everybody is refused until authorize= returns True, and nothing is published for who is refused."""
    async with hub_and_client(authorize=authorize) as (hub, client):
        answer = await client.post("/publish", json=EVENT, headers={"authorization": "Bearer secret"})
        assert (answer.status_code, hub.statistics().published) == (status, status == 200)
        assert ("authorize=" in answer.text) is (authorize is None)


async def test_who_is_refused_is_not_read():
    """The body of a request that is refused is not read."""

    async def body():
        raise AssertionError("it was read")
        yield b""

    async with hub_and_client(authorize=deny) as (_, client):
        assert (await client.post("/publish", content=body())).status_code == 403


@pytest.mark.parametrize("is_async", [False, True])
async def test_who_may_publish_to_what(is_async):
    """authorize_topic= is asked for each topic; if one is refused, nothing is published."""
    asked = []

    def authorize_topic(request, topic):
        asked.append(topic)
        return topic.startswith("public/")

    async def authorize_later(request, topic):
        return authorize_topic(request, topic)

    chosen = authorize_later if is_async else authorize_topic
    async with hub_and_client(authorize_topic=chosen) as (hub, client):
        public, private = {"topic": "public/a", "data": "x"}, {"topic": "private", "data": "x"}
        assert (await client.post("/publish", json=[public, public])).status_code == 200
        answer = await client.post("/publish", json=[public, private])
        assert (answer.status_code, answer.text) == (403, "you may not publish to this topic")
        assert hub.statistics().published == 2
    assert asked == ["public/a", "public/a", "private"]


@pytest.mark.parametrize("topic", [7, None, [], {}, "", "*"])
async def test_authorize_topic_is_asked_about_topics_alone(topic):
    """What is no topic is the client's error, and the user's function never sees it."""
    asked = []
    async with hub_and_client(authorize_topic=lambda _, topic: asked.append(topic)) as (_, client):
        answer = await client.post("/publish", json={"topic": topic, "data": "x"})
    assert (answer.status_code, asked) == (400, [])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://localhost"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
async def test_a_page_of_another_site_publishes_nothing(headers, status):
    """A browser that another site's page has sent here, with the user's cookies, is refused."""
    async with hub_and_client() as (hub, client):
        answer = await client.post("/publish", data=EVENT, headers=headers)
        assert (answer.status_code, hub.statistics().published) == (status, status == 200)


@pytest.mark.parametrize(
    ("request_of", "status", "text"),
    [
        ({"json": {"topic": "news"}}, 400, "an event must have a topic and data"),
        ({"json": {"topic": "*", "data": "x"}}, 400, "a topic to publish to must be"),
        ({"json": {"topic": 7, "data": "x"}}, 400, "a topic must be a str"),
        ({"json": {"topic": "$sse_trio/kick", "data": "x"}}, 400, "does not begin with $sse_trio/"),
        ({"content": "{}", "headers": {"content-type": "text/plain"}}, 415, "application/json or"),
        ({"content": "{}"}, 415, "application/json or"),
        ({"json": {**EVENT, "ttl": 0}}, 400, "ttl must be a number of seconds, from 0.001 to 1e+10, or None; got 0"),
        (
            {"data": {**EVENT, "ttl": "soon"}},
            400,
            "ttl must be a number of seconds, from 0.001 to 1e+10, or None; got 's",
        ),
        ({"json": {"topic": "news", "data": "x" * 2000}}, 413, "1000 bytes at most"),
    ],
)
async def test_what_can_not_be_published(request_of, status, text):
    """A request that makes no sense is the client's error, and its answer says what is wrong."""
    async with hub_and_client(max_bytes=1000) as (hub, client):
        answer = await client.post("/publish", **request_of)
        assert (answer.status_code, hub.statistics().published) == (status, 0)
        assert text in answer.text


async def test_a_charset_is_no_other_type():
    """A media type may have parameters, and capitals."""
    async with hub_and_client() as (_, client):
        headers = {"content-type": "Application/JSON; charset=utf-8"}
        assert (await client.post("/publish", content='{"topic":"a","data":""}', headers=headers)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
async def test_other_methods(method):
    """Only POST publishes, without a word about it in the route."""
    async with hub_and_client() as (_, client):
        answer = await client.request(method, "/publish")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_store_that_is_down(make_remote_store):
    """If the store is down the answer is 503, with when to come again, and nothing of its address."""
    async with hub_and_client(store := make_remote_store()) as (_, client):
        store.is_down = True
        answer = await client.post("/publish", json=EVENT)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "Idempotency-Key" in answer.text
        assert "route" not in answer.text


async def test_a_hub_that_is_opened_later():
    """Instead of the hub, a function of the request may be given; in FastAPI it is a route like others."""
    app = fastapi.FastAPI()
    async with open_hub() as hub:
        app.add_route("/publish", publish_endpoint(lambda request: hub, authorize=lambda request: True))
        async with httpx.AsyncClient(transport=StreamingASGITransport(app), base_url="http://localhost") as client:
            assert "id" in (await client.post("/publish", json=EVENT)).json()
            assert (await client.post("/publish", json={})).json() == {"detail": "an event must have a topic and data"}


async def test_a_client_that_leaves_in_the_midst_of_its_request():
    """A client that disconnects before its body is complete publishes nothing, and is no error in anybody's log."""
    messages = iter(
        [{"type": "http.request", "body": b'{"topic":', "more_body": True}, {"type": "http.disconnect"}],
    )

    async def receive():
        return next(messages)

    async def send(message):
        raise AssertionError("nobody reads it")

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    async with open_hub() as hub:
        await publish_endpoint(hub, authorize=lambda request: True)(scope, receive, send)
        assert hub.statistics().published == 0


async def test_a_websocket_is_closed():
    """Where it is mounted, a WebSocket is closed at once."""
    from starlette.testclient import TestClient

    async with open_hub() as hub:
        app = Starlette(routes=[Mount("/publish", publish_endpoint(hub))])
    with pytest.raises(WebSocketDisconnect), TestClient(app).websocket_connect("/publish/"):
        pass


@pytest.mark.parametrize(
    ("hub", "options"),
    [
        (None, {}),
        ("hub", {}),
        (lambda request: None, {"authorize": True}),
        (lambda request: None, {"authorize_topic": True}),
        (lambda request: None, {"max_bytes": 1.5}),
    ],
)
async def test_what_makes_no_sense(hub, options):
    """A bad argument is an error of the line that makes the endpoint."""
    with pytest.raises(TypeError):
        publish_endpoint(hub, **options)
