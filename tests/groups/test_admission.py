"""Which streams a group lets in, what the others are answered, and that no place is lost or given twice."""

from __future__ import annotations

import gc
import warnings
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import CoroutineType
from typing import Any

import anyio
import fastapi
import httpx
import pytest
from anyio import BrokenResourceError
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message
from starlette.websockets import WebSocket

from sse_trio import (
    CloseReason,
    EventSendChannel,
    EventSourceResponse,
    RefusalReason,
    SSEError,
    StreamGroup,
    StreamRefusedError,
    open_event_channel,
    open_hub,
)
from sse_trio._groups.admission import LONGEST_WAIT, AcceptRate, Admission
from sse_trio._groups.group import group_state_of, run_of
from sse_trio.client import open_event_source
from sse_trio.testing import StreamingASGITransport, TestStream, open_test_stream, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio

MAX_STREAMS, PER, RATE = RefusalReason


async def wait(send_channel: EventSendChannel) -> None:
    """Send an event, and wait for ever."""
    await send_channel.send("event")
    await anyio.sleep_forever()


async def never(send_channel: EventSendChannel) -> None:
    """Be a producer that must not start."""
    raise AssertionError("the producer of a stream that was refused has started")


def user_of(request: Request) -> str | None:
    """The user that a test's request names."""
    return request.headers.get("user")


def app_of(source: Any, *args: Any, **options: Any) -> Starlette:
    """An application with one endpoint, which makes a new stream for each request."""

    async def endpoint(request: Request) -> EventSourceResponse:
        return EventSourceResponse(source, *args, **options)

    return Starlette(routes=[Route("/", endpoint)])


def keys_of(group: StreamGroup) -> Counter[Any]:
    """The group's table of keys."""
    admission = run_of(group).admission
    assert admission is not None
    return admission.keys


async def refusal_of(response: EventSourceResponse, **headers: str) -> StreamRefusedError:
    """The exception of a response that is refused, with nothing sent before."""
    with pytest.raises(StreamRefusedError) as caught:
        async with open_test_stream(response, headers=headers, wait_head=False) as stream:
            await stream.wait_closed()
    assert stream.messages == []
    return caught.value


# --- the answer


@pytest.mark.parametrize(
    ("limit", "status", "reason"),
    [
        ({"max_streams": 1}, 503, MAX_STREAMS),
        ({"max_streams_per": (user_of, 1)}, 429, PER),
        ({"accept_rate": 0.5}, 503, RATE),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
async def test_one_too_many(limit: dict[str, Any], status: int, reason: RefusalReason) -> None:
    """Above each limit, the answer has its status and a random Retry-After, no producer starts, and it is counted."""
    group = StreamGroup(**limit)
    times = set()
    async with open_test_stream(app_of(wait, group=group), headers={"user": "ann"}):
        for _ in range(30):
            async with open_test_stream(app_of(never, group=group), headers={"user": "ann"}) as refused:
                await refused.wait_closed()
            assert refused.status_code == status
            assert refused.headers["content-type"].startswith("text/plain")
            assert b"too many event streams" in refused.body
            times.add(int(refused.headers["retry-after"]))
        statistics = group.statistics()
    assert len(times) > 3
    assert min(times) >= 1
    assert statistics.refused == {reason: 30}
    assert (statistics.opened, statistics.open_streams, statistics.closed) == (1, 1, {})


async def test_within() -> None:
    """A client refused by a full group is told to return within the group's ``reconnect_within``, or ten seconds."""
    for within, most in [(None, 10), (0.5, 1), (3.2, 4)]:
        group = StreamGroup(max_streams=1, reconnect_within=within)
        async with open_test_stream(EventSourceResponse(wait, group=group)):
            times = {(await refusal_of(EventSourceResponse(never, group=group))).retry_after for _ in range(100)}
            assert times == set(range(1, most + 1))


async def test_the_error() -> None:
    """The exception says which limit was exceeded, and does not count as a failure of the response."""
    group = StreamGroup(max_streams_per=(user_of, 1))
    async with open_test_stream(EventSourceResponse(wait, group=group), headers={"user": "ann"}):
        error = await refusal_of(EventSourceResponse(never, group=group), user="ann")
    assert isinstance(error, SSEError)
    assert error.reason is PER
    assert error.status_code == 429
    assert error.headers == {"retry-after": str(error.retry_after)}


async def test_an_exception_handler_of_its_own() -> None:
    """An application may answer a refusal itself, for example so that a browser's EventSource reconnects."""

    async def come_back(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, StreamRefusedError)
        return Response(f"retry: {exc.retry_after * 1000}\n\n", media_type="text/event-stream")

    app = app_of(wait, group=StreamGroup(max_streams=1))
    app.add_exception_handler(StreamRefusedError, come_back)
    async with open_test_stream(app), open_test_stream(app) as refused:
        await refused.wait_closed()
        assert refused.status_code == 200
        assert refused.body.startswith(b"retry: ")


async def test_fastapi() -> None:
    """A FastAPI path operation answers a refusal as it does any other HTTPException."""
    app, group = fastapi.FastAPI(), StreamGroup(max_streams=1)

    @app.get("/")
    async def endpoint() -> EventSourceResponse:
        return EventSourceResponse(wait, group=group)

    async with open_test_stream(app), open_test_stream(app) as refused:
        await refused.wait_closed()
        assert refused.status_code == 503
        assert refused.body == b'{"detail":"too many event streams; come back later"}'
        assert int(refused.headers["retry-after"]) >= 1


async def test_websocket_denial() -> None:
    """A stream that denies a WebSocket is limited like any other: the key function sees the handshake's request."""
    seen: list[tuple[str, str]] = []

    def key(request: Request) -> str:
        seen.append((request.method, request.headers["user"]))
        return "key"

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.send_denial_response(EventSourceResponse(never, group=group))

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    group = StreamGroup(max_streams_per=(key, 1))
    sent: list[Message] = []
    app = Starlette(routes=[WebSocketRoute("/", endpoint)])
    scope = {
        "type": "websocket",
        "path": "/",
        "headers": [(b"user", b"ann")],
        "query_string": b"",
        "extensions": {"websocket.http.response": {}},
    }
    async with open_test_stream(EventSourceResponse(wait, group=group), headers={"user": "bob"}):
        await app(scope, receive, send)
    assert seen == [("GET", "bob"), ("GET", "ann")]
    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 429)


async def test_head_is_not_refused() -> None:
    """HEAD opens no stream, so it is not refused, takes no token and asks no key function."""
    group = StreamGroup(max_streams=1, max_streams_per=(lambda request: pytest.fail("asked"), 1), accept_rate=1)
    async with open_test_stream(EventSourceResponse(wait, group=group), method="HEAD") as head:
        await head.wait_closed()
        assert head.status_code == 200
    assert group.statistics().refused == {}


# --- what a refused stream leaves behind


async def generate() -> AsyncGenerator[str, None]:
    """Be a source that is closed unstarted."""
    yield pytest.fail("started")


@pytest.mark.parametrize("source", ["channel", "producers", "subscription", "generator"])
async def test_what_was_made_for_it_is_closed(source: str) -> None:
    """A refused stream closes its source, and an outside publisher gets an error."""
    group = StreamGroup(max_streams=1)
    async with (
        open_test_stream(EventSourceResponse(wait, group=group)),
        open_hub() as hub,
    ):
        send_channel, receive_channel = open_event_channel()
        if source == "channel":
            await refusal_of(EventSourceResponse(receive_channel, group=group))
        elif source == "producers":
            producers = [partial(never, send_channel)]
            await refusal_of(EventSourceResponse(receive_channel, producers=producers, group=group))
        elif source == "subscription":
            await refusal_of(EventSourceResponse(hub.subscribe("a"), group=group))
            assert hub.statistics().subscribers == 0
            receive_channel.close()
        else:
            generator = generate()
            await refusal_of(EventSourceResponse(generator, group=group))
            with pytest.raises(StopAsyncIteration):
                await anext(generator)
            receive_channel.close()
        with send_channel, pytest.raises(BrokenResourceError):
            await send_channel.send("event")


async def test_nothing_runs_for_it() -> None:
    """Neither ``on_close`` nor ``background`` runs for a stream that was never opened."""

    async def fail(*args: object) -> None:
        raise AssertionError("this runs for streams that were opened")

    group = StreamGroup(max_streams=1)
    async with open_test_stream(EventSourceResponse(wait, group=group)):
        await refusal_of(EventSourceResponse(never, group=group, on_close=fail, background=BackgroundTask(fail)))


# --- places


async def fail_in_set_up(send_channel: EventSendChannel) -> None:
    """Fail before the head."""
    await anyio.sleep(1)
    raise LookupError("failed")


async def fail_later(send_channel: EventSendChannel) -> None:
    """Fail after the head."""
    await send_channel.send("event")
    await anyio.sleep(1)
    raise LookupError("failed")


async def complete(send_channel: EventSendChannel) -> None:
    """Complete."""
    await send_channel.send("event")


async def set_up(send_channel: EventSendChannel) -> None:
    """Be busy before the head for ever."""
    await anyio.sleep_forever()


ENDINGS: list[tuple[Any, Callable[[TestStream, StreamGroup], object]]] = [
    (complete, lambda stream, group: None),
    (wait, lambda stream, group: stream.disconnect()),
    (wait, lambda stream, group: stream.cancel()),
    (wait, lambda stream, group: group.kick()),
    (wait, lambda stream, group: stream.request_shutdown()),
    (wait, lambda stream, group: stream.fail_send(OSError())),
    (wait, lambda stream, group: stream.fail_send(RuntimeError("the server's"))),
    (wait, lambda stream, group: stream.stall(shield=True)),
    (fail_later, lambda stream, group: None),
    (fail_in_set_up, lambda stream, group: None),
    (set_up, lambda stream, group: stream.disconnect()),
    (set_up, lambda stream, group: stream.cancel()),
    (set_up, lambda stream, group: stream.request_shutdown()),
    (set_up, lambda stream, group: group.kick()),
]


@pytest.mark.parametrize(("source", "end"), ENDINGS, ids=range(len(ENDINGS)))
async def test_a_place_is_free_when_its_stream_has_ended(source: Any, end: Any) -> None:
    """A stream holds its place from set-up to the end of ``on_close``; then the place is free and its key forgotten.

    Until then it holds the place, to the last of its ``on_close``.
    """
    group = StreamGroup(max_streams=1, max_streams_per=(user_of, 1))
    held = []

    async def on_close(reason: CloseReason) -> None:
        await anyio.sleep(1)
        held.append((await refusal_of(EventSourceResponse(never, group=group), user="bob")).reason)

    options: dict[str, Any] = {"group": group, "ping": 1, "send_timeout": 2, "commit_within": None}
    try:
        async with open_test_stream(
            EventSourceResponse(source, on_close=on_close, **options), headers={"user": "ann"}, wait_head=False
        ) as stream:
            await anyio.sleep(0.5)
            if source not in (complete, fail_later):
                assert keys_of(group) == {"ann": 1}
                assert (await refusal_of(EventSourceResponse(never, group=group), user="ann")).reason is MAX_STREAMS
            ending = end(stream, group)
            if isinstance(ending, CoroutineType):
                await ending
            await stream.wait_closed()
    except (LookupError, RuntimeError, TimeoutError):
        pass
    assert held == [MAX_STREAMS]
    assert not keys_of(group)
    async with open_test_stream(EventSourceResponse(wait, group=group), headers={"user": "ann"}) as stream:
        await stream.receive()


async def test_a_subscription_that_can_not_join_frees_its_place(make_remote_store: Any) -> None:
    """A stream whose store is down fails in its set-up, and frees its place."""
    group = StreamGroup(max_streams=1, max_streams_per=(user_of, 1))
    store = make_remote_store()
    async with open_hub(store) as hub:
        store.change(is_down=True)
        for _ in range(3):
            response = EventSourceResponse(hub.subscribe("a", after="x-1"), group=group)
            with pytest.raises(ConnectionError):
                async with open_test_stream(response, headers={"user": "ann"}, wait_head=False) as stream:
                    await stream.wait_closed()
        store.change(is_down=False)
    assert not keys_of(group)
    assert group.statistics().refused == {}


async def test_many_at_once() -> None:
    """Of clients that arrive together, as many are admitted as there are places, and more as those leave."""
    group = StreamGroup(max_streams=10, max_streams_per=(user_of, 3))
    app = app_of(wait, group=group)
    for _ in range(3):
        statuses: Counter[int] = Counter()
        gone = anyio.Event()

        async def open_one(user: str, statuses: Counter[int] = statuses, gone: anyio.Event = gone) -> None:
            async with open_test_stream(app, headers={"user": user}) as stream:
                statuses[stream.status_code] += 1
                if stream.status_code == 200:
                    await gone.wait()

        async with anyio.create_task_group() as task_group:
            for number in range(100):
                task_group.start_soon(open_one, str(number % 5))
            await wait_all_tasks_blocked()
            assert group.statistics().open_streams == 10 == statuses[200]
            assert sum(keys_of(group).values()) == 10
            assert max(keys_of(group).values()) <= 3
            assert statuses[503] + statuses[429] == 90
            gone.set()
        assert group.statistics().open_streams == 0
        assert not keys_of(group)


async def test_a_shutdown_refuses_nobody() -> None:
    """During a shutdown, even a full group gives a client a stream that ends with the time to reconnect."""
    group = StreamGroup(max_streams=1, accept_rate=0.1, shutdown_grace=5, reconnect_within=10)
    async with open_test_stream(EventSourceResponse(wait, group=group)) as stream:
        await stream.receive()
        group.request_shutdown()
        await wait_all_tasks_blocked()
        async with open_test_stream(EventSourceResponse(never, group=group)) as late:
            await late.wait_closed()
        assert late.status_code == 200
        assert late.body.count(b"retry: ") == 2
        assert group.statistics().open_streams == 1


# --- keys


async def test_a_limit_for_each_key() -> None:
    """Each key has its own places, whatever its hashable type; a client with the key None has no limit."""
    keys: list[Any] = ["ann", ("10.0.0.1", 2), 7, None, False]
    group = StreamGroup(max_streams_per=(lambda request: keys[int(request.headers["n"])], 2))
    async with AsyncExitStack() as stack:
        for n, key in enumerate(keys):
            for _ in range(4 if key is None else 2):
                await stack.enter_async_context(
                    open_test_stream(EventSourceResponse(wait, group=group), headers={"n": str(n)})
                )
            if key is not None:
                error = await refusal_of(EventSourceResponse(never, group=group), n=str(n))
                assert error.reason is PER
        assert None not in keys_of(group)
        assert group.statistics().open_streams == 12


@pytest.mark.parametrize(
    "key_function",
    [lambda request: ["ann"], lambda request: ("ann", ["10.0.0.1"]), lambda request: anyio.Event().wait()],
    ids=["list", "tuple of a list", "coroutine"],
)
async def test_what_can_not_be_a_key(key_function: Any) -> None:
    """A key function that returns an unhashable value or a coroutine raises: no limit is silently dropped."""
    group = StreamGroup(max_streams_per=(key_function, 1))
    for _ in range(2):
        with pytest.raises(TypeError, match="the key function of max_streams_per returned"):
            async with open_test_stream(EventSourceResponse(never, group=group)):
                pass
    assert not keys_of(group)


async def test_an_awaitable_that_is_no_coroutine() -> None:
    """Any awaitable is refused as a key, not only a coroutine."""

    class Later:
        def __await__(self) -> Iterator[None]:
            raise NotImplementedError

    group = StreamGroup(max_streams_per=(lambda request: Later(), 1))
    with pytest.raises(TypeError, match="can't be a key"):
        async with open_test_stream(EventSourceResponse(never, group=group)):
            pass


async def test_a_key_function_that_raises() -> None:
    """The response raises the key function's exception; no place or token is used, and nothing stays open."""
    group = StreamGroup(max_streams_per=(lambda request: request.headers["user"], 1), accept_rate=1)
    for _ in range(3):
        with pytest.raises(KeyError):
            async with open_test_stream(EventSourceResponse(never, group=group)):
                pass
    async with open_test_stream(EventSourceResponse(wait, group=group), headers={"user": "ann"}) as stream:
        assert stream.status_code == 200
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


async def test_a_full_group_asks_nobody() -> None:
    """Without a free place or token the key function is not called, because in a storm it is most of the cost."""
    asked: list[Request] = []
    for limit in ({"max_streams": 1}, {"accept_rate": 1}):
        asked.clear()
        group = StreamGroup(max_streams_per=(asked.append, 1), **limit)  # type: ignore[arg-type]
        async with open_test_stream(EventSourceResponse(wait, group=group)):
            for _ in range(10):
                await refusal_of(EventSourceResponse(never, group=group))
        assert len(asked) == 1


async def test_who_is_over_their_own_limit_takes_no_token() -> None:
    """A user with too many streams doesn't use up the rate of other users."""
    group = StreamGroup(max_streams_per=(user_of, 1), accept_rate=2)
    async with open_test_stream(EventSourceResponse(wait, group=group), headers={"user": "ann"}):
        for _ in range(10):
            assert (await refusal_of(EventSourceResponse(never, group=group), user="ann")).reason is PER
        async with open_test_stream(EventSourceResponse(wait, group=group), headers={"user": "bob"}) as stream:
            assert stream.status_code == 200


# --- the rate


@pytest.mark.untraced
@pytest.mark.parametrize(("rate", "at_once"), [(20, 20), (2.5, 2), (0.1, 1)])
async def test_the_rate(rate: float, at_once: int) -> None:
    """One second's worth of streams is admitted at once, then the rate applies; streams that end change nothing."""
    group = StreamGroup(accept_rate=rate)
    app = app_of(complete, group=group)

    async def count_opened(seconds: float) -> int:
        opened = group.statistics().opened
        for _ in range(200):
            async with open_test_stream(app) as stream:
                await stream.wait_closed()
            await anyio.sleep(seconds / 200)
        return group.statistics().opened - opened

    assert await count_opened(0) == at_once
    assert await count_opened(100 / rate) == pytest.approx(100, abs=at_once)
    await anyio.sleep(1000)
    assert await count_opened(0) == at_once


def test_turns_of_a_storm() -> None:
    """Clients refused at the same moment get turns one after another, as many per second as the rate admits."""
    rate = AcceptRate(100)
    assert rate.has_token(1000.0)
    turns = [rate.next_turn(1000.0) for _ in range(2000)]
    assert turns == pytest.approx([n / 100 for n in range(1, 2001)])
    assert rate.next_turn(1015.0) == pytest.approx(5.01)  # the queue goes on while nobody comes
    assert rate.next_turn(2000.0) == pytest.approx(0.01)


def storm(admission: Admission, seconds: float, key: str = "attacker", every: float = 0.001) -> list[float]:
    """Have one client open and close streams as fast as it can, and another come now and then; return its waits."""
    waits: list[float] = []
    for step in range(round(seconds / every)):
        now = 1000 + step * every
        for name in (key, "ann") if step % 100 == 50 else (key,):
            try:
                place = admission.enter(0, now, lambda name=name: name)  # type: ignore[misc]
            except StreamRefusedError as exc:
                waits += [exc.retry_after] if name == "ann" else []
            else:
                assert place is not None
                place.leave()
                waits += [0] if name == "ann" else []
    return waits


def limited(rate: float) -> Admission:
    """A group that is limited by rate and by key, where the key is the request."""
    group = StreamGroup(max_streams_per=(lambda request: request, 5), accept_rate=rate)
    limits = group_state_of(group).limits
    assert limits is not None
    return Admission(limits)


@pytest.mark.parametrize("rate", [25, 100, 1000])
def test_one_client_does_not_use_up_the_rate(rate: float) -> None:
    """A client that opens a thousand streams a second, and closes each at once, does not take another client's turn."""
    admission = limited(rate)
    assert set(storm(admission, 20)) == {0}
    assert not admission.keys


def test_asking_again_makes_no_queue_longer() -> None:
    """While a crowd waits for its turn, one client's refused requests don't lengthen the wait of the others."""
    admission = limited(10)
    for n in range(150):  # a crowd, each once: it has the tokens, and a queue of fourteen seconds
        with suppress(StreamRefusedError):
            admission.enter(0, 1000.0, lambda n=n: f"crowd {n}")  # type: ignore[misc]
    for _ in range(5000):
        with pytest.raises(StreamRefusedError):
            admission.enter(0, 1000.0, lambda: "attacker")  # type: ignore[arg-type, return-value]
    with pytest.raises(StreamRefusedError) as caught:
        admission.enter(0, 1000.0, lambda: "ann")  # type: ignore[arg-type, return-value]
    assert caught.value.retry_after <= 18
    assert admission.refused[RATE] == 5141


def test_a_client_without_a_key_has_no_share() -> None:
    """A client with the key None is refused only if there is no token, and queues like any other."""
    admission = limited(10)
    for _ in range(10):
        assert admission.enter(0, 1000.0, lambda: None) is None  # type: ignore[arg-type, return-value]
    times = []
    for _ in range(300):
        with pytest.raises(StreamRefusedError) as caught:
            admission.enter(0, 1000.0, lambda: None)  # type: ignore[arg-type, return-value]
        times.append(caught.value.retry_after)
    assert times[-1] > 20


def test_turns_have_an_end() -> None:
    """A flood of clients that never come back doesn't make an honest client wait for ever."""
    rate = AcceptRate(100)
    for _ in range(100_000):
        rate.next_turn(0.0)
    assert rate.next_turn(0.0) == LONGEST_WAIT
    assert rate.next_turn(LONGEST_WAIT) == pytest.approx(0.01)


@pytest.mark.parametrize(("now", "least", "most"), [(1e3, 40, 60), (1e18, 1, 60)])
def test_a_turn_is_within_a_minute_and_never_now(now: float, least: int, most: int) -> None:
    """In a flood, Retry-After is between one second and one minute plus its spread, whatever the clock says."""
    group = StreamGroup(accept_rate=100)
    limits = group_state_of(group).limits
    assert limits is not None
    admission = Admission(limits)
    for _ in range(100):
        assert admission.enter(0, now, pytest.fail) is None
    times = []
    for _ in range(6000):
        with pytest.raises(StreamRefusedError) as caught:
            admission.enter(0, now, pytest.fail)
        times.append(caught.value.retry_after)
    assert all(1 <= seconds <= most for seconds in times)
    assert all(seconds >= least for seconds in times[5000:])


async def test_turns_are_told_roughly() -> None:
    """Retry-After is spread, so that the first clients in the queues of several processes don't arrive together."""
    times = set()
    for _ in range(30):
        group = StreamGroup(accept_rate=0.1)
        async with open_test_stream(EventSourceResponse(wait, group=group)):
            times.add((await refusal_of(EventSourceResponse(never, group=group))).retry_after)
    assert times <= {8, 9, 10, 11, 12}
    assert len(times) >= 3


async def test_storm_with_clients_that_do_as_they_are_told() -> None:
    """Clients that arrive together and come back at their Retry-After are all admitted as fast as the rate allows."""
    group = StreamGroup(accept_rate=20)
    app = app_of(wait, group=group)
    asked = 0

    async def come_until_in() -> None:
        nonlocal asked
        while True:
            asked += 1
            async with open_test_stream(app) as stream:
                if stream.status_code == 200:
                    return
                await stream.wait_closed()
            await anyio.sleep(int(stream.headers["retry-after"]))

    began = anyio.current_time()
    async with anyio.create_task_group() as task_group:
        for _ in range(200):
            task_group.start_soon(come_until_in)
    assert 9 <= anyio.current_time() - began < 20
    assert asked < 3 * 200
    assert group.statistics().opened == 200


# --- the other end


async def test_our_client_comes_back() -> None:
    """open_event_source() follows Retry-After, and is admitted when a place is free."""
    group = StreamGroup(max_streams=1)
    transport = StreamingASGITransport(app_of(wait, group=group))
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        anyio.create_task_group() as tg,
    ):

        async def hold() -> None:
            async with open_event_source("/", client=client) as source:
                await anext(source)
                await anyio.sleep(15)

        tg.start_soon(hold)
        await wait_all_tasks_blocked()
        began = anyio.current_time()
        async with open_event_source("/", client=client) as source:
            assert (await anext(source)).data == "event"
        assert 15 <= anyio.current_time() - began < 15 + 31  # the longest usual wait is 30 s
    assert group.statistics().refused[MAX_STREAMS] >= 2


# --- cost


async def test_without_limits_nothing_is_asked() -> None:
    """A group without limits keeps no tables and admits every stream."""
    assert group_state_of(StreamGroup()).limits is None
    assert run_of(StreamGroup()).admission is None
    assert group_state_of(StreamGroup(max_streams=1)).limits is not None
