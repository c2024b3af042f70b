"""open_event_source() beyond what an EventSource in a browser does."""

from __future__ import annotations

import gc
import weakref

import anyio
import httpx
import pytest

from sse_trio._errors import EventTooLargeError, SSEError
from sse_trio.client import ConnectionState, EventSourceError, open_event_source

pytestmark = pytest.mark.anyio

# Where httpx abandons generators of its own, which trio warns of when they are collected.
leaves_generators = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CONNECTING, OPEN, CLOSED = ConnectionState.CONNECTING, ConnectionState.OPEN, ConnectionState.CLOSED


async def collect(source):
    return [event.data async for event in source]


# --- What comes back


async def test_opening_waits_for_the_response(serve, stream):
    """Inside the block the response is there, before any event."""
    server = serve(stream(1000, headers_and_all="x"))
    async with server.client() as client, open_event_source("/", client=client) as source:
        assert source.state is OPEN
        assert source.response.headers["headers-and-all"] == "x"
        assert (source.attempt, source.error, source.last_event_id, source.retry) == (1, None, "", 3.0)
    assert source.state is CLOSED


@pytest.mark.parametrize("reconnect", [None, True])
@pytest.mark.parametrize("status", [400, 404, 407, 431, 501])
async def test_a_final_answer_is_an_error_with_its_response(serve, stream, status, reconnect):
    """The error says which request and which status, and has the response with its body."""
    server = serve(stream(1, '{"why": "', 1, 'x"}', status=status, content_type="application/json"))
    with pytest.raises(EventSourceError, match=rf"^GET http://test/a answered {status} ") as info:
        async with server.client() as client, open_event_source("/a?secret", client=client, reconnect=reconnect):
            pytest.fail("opened")
    assert isinstance(info.value, SSEError)
    assert info.value.response.json() == {"why": "x"}


@pytest.mark.parametrize("pieces", [[b"x" * 1000] * 2000, [b"x", 1000], [b"x", httpx.ReadError("reset")]])
async def test_the_body_of_a_refusal_is_bounded(serve, stream, pieces):
    """A refusal's body of any length, at any pace, even broken, is read for 1 MiB or 5 seconds at most; it says so."""
    server = serve(stream(*pieces, status=404))
    with pytest.raises(EventSourceError) as info:
        async with server.client() as client, open_event_source("/", client=client):
            pytest.fail("opened")
    assert anyio.current_time() <= 5
    assert info.value.is_truncated
    assert "cut short" in str(info.value)
    if len(pieces) == 2000:
        assert info.value.response.content == b"x" * 2**20


async def test_last_event_id_is_that_of_the_event_returned_last(serve, stream):
    """last_event_id is that of the event returned last, so resuming from it later skips none."""
    server = serve(stream("id: 1\ndata: x\n\nid: 2\ndata: y\n\nid: 3\n\n", 1), stream(status=204))
    async with server.client() as client, open_event_source("/", client=client) as source:
        assert source.last_event_id == ""
        await anext(source)
        assert source.last_event_id == "1"
        await anext(source)
        assert source.last_event_id == "3"  # the block of an id alone has no event to come with
        assert await collect(source) == []
    assert server.ids == [None, b"3"]


async def test_received_events_are_returned_before_a_restart(serve, stream):
    """restart() loses nothing that has arrived, and asks for nothing twice."""
    server = serve(stream("id: 1\ndata: x\n\nid: 2\ndata: y\n\n", 9), stream("data: z\n\n"), stream(status=204))
    async with server.client() as client, open_event_source("/", client=client) as source:
        await anext(source)
        source.restart()
        assert await collect(source) == ["y", "z"]
    assert server.ids == [None, b"2", b"2"]


async def test_an_event_too_large(serve, stream):
    """An oversized event is an error after the events before it, without a reconnection that would meet it again."""
    server = serve(stream("id: 1\ndata: x\n\ndata: y\n\ndata: " + "z" * 100))
    async with server.client() as client, open_event_source("/", client=client, max_event_size=50) as source:
        assert [(await anext(source)).data for _ in range(2)] == ["x", "y"]
        with pytest.raises(EventTooLargeError):
            await anext(source)
    assert source.last_event_id == "1"
    assert len(server.requests) == 1


async def test_the_iteration_stays_ended(serve, stream):
    """After its end or an error, iterating again ends at once."""
    server = serve(stream("data: x\n\n", httpx.ReadError("reset")))
    async with server.client() as client, open_event_source("/", client=client, reconnect=False) as source:
        assert (await anext(source)).data == "x"
        with pytest.raises(EventSourceError, match=r"failed: ReadError\('reset'\)") as info:
            await anext(source)
        assert isinstance(info.value.__cause__, httpx.ReadError)
        assert info.value.response is None
        assert await collect(source) == []
    assert len(server.requests) == 1


# --- Reconnecting or not


@pytest.mark.parametrize(("method", "connections"), [("GET", 2), ("get", 2), ("POST", 1), ("REPORT", 1)])
async def test_only_get_reconnects_by_itself(serve, stream, method, connections):
    """A POST whose stream ends just ends, so that it doesn't start something twice."""
    server = serve(stream("data: x\n\n"), stream(status=204))
    async with server.client() as client, open_event_source("/", client=client, method=method) as source:
        assert await collect(source) == ["x"]
    assert len(server.requests) == connections


@pytest.mark.parametrize(
    "broken", [{"error": httpx.ConnectError("refused")}, {"status": 503}, {"after": 10}, {"pieces": (10,)}]
)
async def test_without_reconnecting_everything_is_an_error(serve, stream, answer, broken):
    """With reconnect=False, every failure is an error: no connection, an overloaded server, silence."""
    headers = {"content-type": "text/event-stream"}
    server = serve(answer(headers=headers, **broken))
    with pytest.raises(EventSourceError):
        async with (
            server.client() as client,
            open_event_source("/", client=client, reconnect=False, idle_timeout=5) as source,
        ):
            await collect(source)
    assert len(server.requests) == 1
    assert anyio.current_time() <= 5


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "120"}, 120),
        ({"retry_after": "Sun, 06 Nov 1994 08:50:07 GMT", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}, 30),
        ({"retry_after": "soon"}, 1),
        ({"retry_after": "0"}, 1),
        ({"retry_after": "Sun, 06 Nov 1994 08:49:07 GMT", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}, 1),
        ({}, 1),
    ],
)
@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_retry_after(serve, stream, status, headers, seconds):
    """An overloaded server is asked again when it says so, and never sooner than otherwise."""
    server = serve(stream(status=status, **headers), stream("data: x\n\n"), stream(status=204))
    async with server.client() as client, open_event_source("/", client=client, retry=1) as source:
        assert await collect(source) == ["x"]
    assert seconds <= server.waits[0] <= seconds * 1.2


async def test_backoff_grows_and_an_event_resets_it(serve, stream, answer):
    """Connections in a row without an event come less and less often; an event brings the reconnection time back."""
    fail, empty = answer(error=httpx.ConnectError("refused")), stream(":\n\n")
    server = serve(*[fail, empty] * 4, stream("data: x\n\n"), fail, stream(status=204))
    async with server.client() as client, open_event_source("/", client=client, retry=1, max_retry=20) as source:
        await collect(source)
    waits = server.waits
    bounds = [1.2, 2, 4, 8, 16, 20, 20, 20, 1.2, 2]
    assert all(1 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    assert sum(waits[:8]) > 16


async def test_a_server_that_asks_for_no_wait_is_not_flooded(serve, stream):
    """`retry: 0` and `Retry-After: 0` lead to at most ten connections a second."""
    for answer in (stream("retry: 0\ndata: x\n\n"), stream("retry: 0\n"), stream(status=503, retry_after="0")):
        server = serve(answer)
        with anyio.move_on_after(20):
            async with server.client() as client, open_event_source("/", client=client, retry=0) as source:
                await collect(source)
        assert 3 < len(server.requests) <= 200


async def test_quiet_connections_that_last_are_not_backed_off_from(serve, stream):
    """A stream that gives pings only, and is made again every quarter of an hour, is away for seconds each time."""
    server = serve(*[stream(*[15, ":\n"] * 60)] * 10, stream(status=204))
    async with server.client() as client, open_event_source("/", client=client, idle_timeout=30) as source:
        assert await collect(source) == []
    assert max(server.waits) <= 900 + 3 * 1.2


async def test_connections_that_last_and_give_nothing_are_backed_off_from(serve, stream):
    """A connection without a byte counts as failed, however long it lasted."""
    server = serve(*[stream(100)] * 20, stream(status=204))
    async with server.client() as client, open_event_source("/", client=client, max_retry=600) as source:
        assert await collect(source) == []
    assert max(server.waits) > 200


@pytest.mark.parametrize(
    ("answer_for", "options"), [(100, {"take_unfinished": True}), (10_000, {"idle_timeout": 100})], ids=["ends", "idle"]
)
async def test_nothing_is_no_byte_however_it_ends(serve, stream, answer_for, options):
    """A connection without a byte is backed off from, too, if it is idle too long, or its last event would be taken."""
    server = serve(*[stream(answer_for)] * 20, stream(status=204))
    async with server.client() as client, open_event_source("/", client=client, max_retry=600, **options) as source:
        assert await collect(source) == []
    assert max(server.waits) > 300


async def test_idle_timeout_counts_for_the_head_too(serve, stream):
    """A server that never answers is as dead as one that never sends an event."""
    server = serve(stream(), stream("data: x\n\n"), stream(status=204))
    server.answers[0].after = 100
    errors = []
    async with (
        server.client() as client,
        open_event_source(
            "/", client=client, idle_timeout=5, on_state_change=lambda source: errors.append(source.error)
        ) as source,
    ):
        assert await collect(source) == ["x"]
    assert isinstance(errors[1], TimeoutError)
    assert "5 s" in str(errors[1])
    assert server.times[1] <= 5 + 3 * 1.2


async def test_a_header_that_cannot_be_sent_is_final_at_first(serve, stream, answer):
    """A request that httpx refuses to send is an error at first; after a response it is a lost connection."""
    fail = answer(error=httpx.LocalProtocolError("illegal"))
    server = serve(fail)
    with pytest.raises(EventSourceError):
        async with server.client() as client, open_event_source("/", client=client):
            pytest.fail("opened")
    server = serve(stream("data: x\n\n"), fail, stream(status=204))
    async with server.client() as client, open_event_source("/", client=client) as source:
        assert await collect(source) == ["x"]
    assert len(server.requests) == 3


@leaves_generators
async def test_content_that_cannot_be_decoded_is_an_error(serve, stream):
    """A body that isn't in the coding it names is a final error."""
    server = serve(stream("no gzip", content_encoding="gzip"))
    with pytest.raises(EventSourceError) as info:
        async with server.client() as client, open_event_source("/", client=client) as source:
            await collect(source)
    assert isinstance(info.value.__cause__, httpx.DecodingError)
    assert len(server.requests) == 1


async def test_a_compressed_stream(serve, stream):
    """A gzipped stream is decoded as it arrives."""
    import zlib

    packer = zlib.compressobj(wbits=31)
    chunks = [packer.compress(b"data: %d\n\n" % n) + packer.flush(zlib.Z_SYNC_FLUSH) for n in range(3)]
    chunks.append(packer.flush())
    server = serve(stream(*[part for chunk in chunks for part in (chunk, 1)], content_encoding="gzip"))
    async with server.client() as client, open_event_source("/", client=client, reconnect=False) as source:
        times = [anyio.current_time() async for _ in source]
    assert times == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_frames_of_zstd(serve, stream, size):
    """Frame after frame, as a hub's shared zstd comes, is decoded wherever the network or we cut it, each at once."""
    from sse_trio._compression.shared import new_shared_coder
    from sse_trio._wire.batch import Batch

    coder = new_shared_coder("zstd")
    texts = [f"data: {'x' * n}\n\n" for n in range(40)]
    burst = b"".join([coder.encode(Batch(text.encode())).body for text in texts])
    late = coder.encode(Batch(b"data: late\n\n")).body
    pieces = [burst[at : at + size] for at in range(0, len(burst), size)]
    server = serve(stream(*pieces, late[:3], 1, late[3:], 1, coder.finish(b""), content_encoding="zstd"))
    async with server.client() as client, open_event_source("/", client=client, reconnect=False) as source:
        events = [(anyio.current_time(), event.data) async for event in source]
    assert events == [*((0, "x" * n) for n in range(40)), (1, "late")]


def bomb(megabytes, times=1):
    """Return this many megabytes of one line, compressed this many times."""
    import zlib

    packed = b"x" * 2**20 * megabytes
    for _ in range(times):
        packer = zlib.compressobj(9, wbits=31)
        packed = packer.compress(packed) + packer.flush()
    return packed


@leaves_generators
@pytest.mark.parametrize("status", [200, 404])
async def test_a_compression_bomb(serve, stream, status):
    """A small answer that decompresses to 100 MB is decoded only up to the limit of an event or a refusal's body."""
    import tracemalloc

    server = serve(stream(bomb(100), status=status, content_encoding="gzip"))
    tracemalloc.start()
    try:
        with pytest.raises((EventTooLargeError, EventSourceError)) as info:
            async with server.client() as client, open_event_source("/", client=client) as source:
                await collect(source)
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()
    if status == 404:
        assert info.value.response.content == b"x" * 2**20
        assert info.value.is_truncated


@pytest.mark.parametrize("status", [200, 404])
async def test_a_body_that_was_compressed_twice_is_not_decoded(serve, stream, status):
    """A body that was compressed twice is refused, because it can be a bomb at any limit."""
    server = serve(stream(bomb(1, times=2), status=status, content_encoding="gzip, GZIP"))
    with pytest.raises(EventSourceError, match="more than once" if status == 200 else "404") as info:
        async with server.client() as client, open_event_source("/", client=client) as source:
            await collect(source)
    assert info.value.response.content == b""
    assert len(server.requests) == 1


async def test_a_refusal_is_decoded(serve, stream):
    """The body of a refusal is readable in the error, compressed or not."""
    for encoding, body in (("gzip", bomb(1)), ("Identity, GZIP", bomb(1)), ("identity", b"x" * 2**20)):
        server = serve(stream(body, status=404, content_encoding=encoding))
        with pytest.raises(EventSourceError) as info:
            async with server.client() as client, open_event_source("/", client=client):
                pytest.fail("opened")
        assert info.value.response.text == "x" * 2**20
        assert not info.value.is_truncated
        assert "content-encoding" not in info.value.response.headers


# --- Being watched and being told


async def test_on_state_change_sees_each_attempt(serve, stream, answer):
    """on_state_change is called before each attempt and with its outcome."""
    error = httpx.ConnectError("refused")
    server = serve(stream("id: 1\ndata: x\n\n"), answer(error=error), stream(status=404))
    log = []

    def note(source):
        wait = round(max(0.0, source.connect_at - anyio.current_time()) / 1.1, -3)
        log.append((source.state, source.attempt, wait, source.error, source.last_event_id))

    with pytest.raises(EventSourceError) as info:
        async with (
            server.client() as client,
            open_event_source("/", client=client, retry=1000, max_retry=10, on_state_change=note) as source,
        ):
            await collect(source)
    assert log == [
        (CONNECTING, 1, 0, None, ""),
        (OPEN, 1, 0, None, ""),
        (CONNECTING, 2, 1000, None, "1"),
        (CONNECTING, 3, 1000, error, "1"),
        (CLOSED, 3, 0, info.value, "1"),
    ]


async def test_what_on_state_change_raises_comes_out(serve, stream):
    """An exception of on_state_change ends the source and is raised."""
    server = serve(stream("data: x\n\n"))

    def fail(source):
        if source.state is OPEN:
            raise LookupError

    with pytest.raises(LookupError):
        async with server.client() as client, open_event_source("/", client=client, on_state_change=fail):
            pytest.fail("opened")


async def test_what_on_state_change_raises_at_the_end_leaves_nothing_open(serve, stream):
    """If on_state_change raises as the block ends, the connection is still closed."""
    server = serve(stream("data: x\n\n", 100))

    def fail(source):
        if source.state is CLOSED:
            raise LookupError

    with pytest.raises(LookupError):
        async with server.client() as client, open_event_source("/", client=client, on_state_change=fail) as source:
            await anext(source)
    assert server.open_bodies == 0


async def test_losing_a_connection_is_logged(serve, stream, answer, caplog):
    """A broken connection logs a warning with what, why and when next; a stream that just ended doesn't."""
    caplog.set_level("INFO", "sse_trio.client")
    server = serve(answer(error=httpx.ConnectError("refused")), stream("data: x\n\n"), stream(status=204))
    async with server.client() as client, open_event_source("/a?secret", client=client) as source:
        await collect(source)
    messages = [(record.levelname, record.getMessage()) for record in caplog.records if "sse_trio" in record.name]
    assert [level for level, _ in messages] == ["WARNING", "INFO"]
    assert messages[0][1].startswith("GET http://test/a: ConnectError('refused'); connecting again in ")
    assert messages[1][1].startswith("GET http://test/a: ended; connecting again in ")


async def test_close_from_another_task_ends_the_iteration(serve, stream):
    """close() from another task ends any wait for the network at once, and closes the connection."""
    for server in (serve(stream("data: x\n\n", 100)), serve(stream("data: x\n\n"))):
        async with server.client() as client, open_event_source("/", client=client, retry=50) as source:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect, source)
                await anyio.sleep(5)
                start = anyio.current_time()
                source.close()
            assert anyio.current_time() == start
            assert server.open_bodies == 0


async def test_bytes_that_come_with_the_close_are_dropped(serve, stream):
    """After close() there is no event, not even one whose bytes arrived in the same moment."""
    server = serve(stream(lambda: source.close() or b"id: 1\ndata: x\n\n"))
    async with server.client() as client, open_event_source("/", client=client) as source:
        assert await collect(source) == []
    assert source.last_event_id == ""


async def test_an_error_that_comes_with_the_close_is_dropped(serve, stream):
    """After close() there is neither an error nor another connection."""

    def break_after_close():
        source.close()
        raise httpx.ReadError("reset")

    server = serve(stream(break_after_close))
    async with server.client() as client, open_event_source("/", client=client, reconnect=False) as source:
        assert await collect(source) == []
    assert source.error is None


async def test_close_drops_an_error_to_come(serve, stream):
    """After close() no error is raised either, even if it is already known."""
    server = serve(stream("data: x\n\ndata: y\n\ndata: " + "z" * 100))
    async with server.client() as client, open_event_source("/", client=client, max_event_size=50) as source:
        await anext(source)
        source.close()
        assert await collect(source) == []


async def test_restart_while_waiting(serve, stream):
    """restart() ends the wait for the next connection."""
    server = serve(stream("data: x\n\n"), stream(status=204))

    async def restart_soon():
        await anyio.sleep(1)
        source.restart()

    async with (
        server.client() as client,
        open_event_source("/", client=client, retry=50) as source,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(restart_soon)
        assert await collect(source) == ["x"]
    assert server.times == [0, 1]


@pytest.mark.parametrize("closes_slowly", [True, False])
async def test_leaving_the_block_while_another_task_iterates(serve, stream, closes_slowly):
    """If the block is left while another task iterates, that iteration ends and closes the connection."""
    server = serve(stream("data: x\n\n", 100))
    server.closes_slowly = closes_slowly
    async with anyio.create_task_group() as tasks, server.client() as client:
        async with open_event_source("/", client=client) as source:
            tasks.start_soon(collect, source)
            await anyio.sleep(5)
        await anyio.wait_all_tasks_blocked()
        assert server.open_bodies == 0


async def test_one_task_at_a_time(serve, stream):
    """A second task that waits for an event at the same time gets an error."""
    server = serve(stream(5, "data: x\n\n"), stream(status=204))
    async with (
        server.client() as client,
        open_event_source("/", client=client) as source,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(collect, source)
        await anyio.sleep(1)
        with pytest.raises(anyio.BusyResourceError):
            await anext(source)


# --- Cancellation and leaks


@pytest.mark.parametrize("seconds", [0, 0.5, 1, 1.5, 2, 2.5, 3, 5])
async def test_cancellation_anywhere_closes_the_connection(serve, stream, seconds):
    """Wherever a source is cancelled, it leaves nothing open and makes no further request."""
    redirect = stream(1, status=307, content_type="", location="/b")
    redirect.after = 1
    refusal = stream(1, "x", status=503)
    server = serve(redirect, stream(1, "data: x\n\n"), refusal, stream(1))
    with anyio.move_on_after(seconds):
        async with server.client() as client, open_event_source("/", client=client, retry=0.1) as source:
            await collect(source)
    assert server.open_bodies == 0
    count = len(server.requests)
    await anyio.sleep(100)
    assert len(server.requests) == count


async def test_a_cancelled_read_is_a_lost_connection(serve, stream):
    """If you cancel a wait for an event and ask again, you get it over a new connection, without a gap."""
    server = serve(stream("id: 1\ndata: x\n\n", 10, "data: y\n\n"), stream("data: z\n\n"), stream(status=204))
    async with server.client() as client, open_event_source("/", client=client) as source:
        await anext(source)
        with anyio.move_on_after(5) as scope:
            await anext(source)
        assert scope.cancelled_caught
        assert server.open_bodies == 0
        assert await collect(source) == ["z"]
    assert server.ids == [None, b"1", b"1"]


async def test_a_cancelled_read_without_reconnecting_is_no_end(serve, stream):
    """A stream that a cancellation cut short doesn't look like a complete one."""
    server = serve(stream("data: x\n\n", 10, "data: y\n\n"))
    async with server.client() as client, open_event_source("/", client=client, reconnect=False) as source:
        await anext(source)
        with anyio.move_on_after(5):
            await anext(source)
        with pytest.raises(EventSourceError, match="ClosedResourceError"):
            await anext(source)


async def test_a_cancelled_call_loses_no_event(serve, stream):
    """A call in a cancelled scope raises, and the event is there for the next."""
    server = serve(stream("data: x\n\ndata: y\n\n"))
    async with server.client() as client, open_event_source("/", client=client) as source:
        await anext(source)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(source)
        assert scope.cancelled_caught
        assert (await anext(source)).data == "y"


async def test_a_cancelled_call_loses_no_failure(serve, stream):
    """A call that is cancelled when the stream has failed leaves the failure for the next call."""
    server = serve(stream("data: x\n\n"), stream(status=404))
    with anyio.CancelScope() as scope:
        async with (
            server.client() as client,
            open_event_source(
                "/", client=client, on_state_change=lambda source: source.state is CLOSED and scope.cancel()
            ) as source,
        ):
            await anext(source)
            with pytest.raises(anyio.get_cancelled_exc_class()):
                await anext(source)
            with anyio.CancelScope(shield=True), pytest.raises(EventSourceError, match="404"):
                await anext(source)


@pytest.mark.untraced
async def test_a_thousand_reconnections_leak_nothing(serve, stream):
    """After a thousand connections there are no more objects than after a hundred, and one body open at a time."""
    most_open = 0

    def next_answer(request):
        nonlocal most_open
        most_open = max(most_open, server.open_bodies)
        del server.requests[:], server.times[:]
        return stream("id: 1\ndata: x\n\n")

    server = serve(next_answer)

    async def take(source, count):
        for _ in range(count):
            await anext(source)
        gc.collect()
        return len(gc.get_objects())

    async with server.client() as client, open_event_source("/", client=client, retry=0.001) as source:
        before = await take(source, 100)
        after = await take(source, 1000)
    assert most_open == 0
    assert after - before < 100


async def test_leaving_early_leaves_no_generator_behind(serve, stream):
    """Leaving early leaves no unfinished generator, not even httpx's, of which trio would warn."""
    server = serve(stream("data: x\n\n", "data: y\n\n"))
    async with server.client() as client, open_event_source("/", client=client) as source:
        await anext(source)
    del source
    gc.collect()
    await anyio.wait_all_tasks_blocked()


@leaves_generators
async def test_a_body_that_goes_on_after_it_is_closed_is_left_alone():
    """A transport that never stops can't delay the closing."""

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self):
            while True:
                yield b"data: x\n\n"

    async def handle(request):
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Endless())

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(handle)) as client,
        open_event_source("http://test/", client=client) as source,
    ):
        assert (await anext(source)).data == "x"


# --- Arguments


async def test_the_callers_headers_win(serve, stream):
    """Your own Accept wins, and your Last-Event-ID counts until there is another id."""
    server = serve(stream("id: 1\ndata: x\n\n"), stream(status=204))
    headers = {"Accept": "text/event-stream, */*", "last-event-id": "0"}
    async with server.client() as client, open_event_source("/", client=client, headers=headers) as source:
        await collect(source)
    assert [request.headers["accept"] for request in server.requests] == ["text/event-stream, */*"] * 2
    assert server.ids == [b"0", b"1"]
    assert headers == {"Accept": "text/event-stream, */*", "last-event-id": "0"}


async def test_what_an_event_source_shows_of_itself(serve, stream):
    """The repr of a source shows where it is connected and how far it has come, without secrets."""
    server = serve(stream("id: 7\ndata: x\n\n", 1), stream(status=204))
    headers = {"authorization": "SECRET"}
    url = "http://user:SECRET@test/clock?token=SECRET"
    async with server.client() as client, open_event_source(url, client=client, headers=headers) as source:
        assert repr(source) == "<EventSource: GET http://test/clock, open, attempt 1, last_event_id=''>"
        assert [event.data async for event in source] == ["x"]
        assert repr(source) == "<EventSource: GET http://test/clock, closed, attempt 2, last_event_id='7'>"


async def test_a_source_that_has_gone_leaves_no_cycle(serve, stream):
    """A source that has ended leaves no reference cycle."""
    server = serve(stream("data: x\n\n", status=204))
    async with (
        server.client() as client,
        open_event_source("/", client=client, on_state_change=lambda _: None) as source,
    ):
        ref = weakref.ref(source)
    gc.disable()
    try:
        del source
        assert ref() is None
    finally:
        gc.enable()
