"""Server-Sent Events with structured concurrency, for trio and asyncio.

A stream is a pair of channels. A producer is a coroutine that gets the send end, and the response owns the nursery
that it runs in: whatever ends the stream, the producer is cancelled and has cleaned up when the response is done.
"""

# Which folder does what, from the bottom to the top; each imports only from those above it in this list. The map with a
# picture is docs/architecture.md, and tests/test_layering.py has the ranks.
#
#   _reasons  _failures   why streams end; exception groups
#   _arguments/     checks of arguments
#   _loops/         what anyio lacks, for each event loop
#   _requests/      headers of a request; who may ask
#   _wire/          bytes to events and back
#   _errors         every exception
#   _compression/   content codings
#   _channels/      the pair of channels
#   _servers/       the one seam to a server
#   _typed/         typed events
#   stores/         where a hub keeps its events
#   _groups/        who is open, who is let in, when all go
#   _hubs/          the same events for many subscribers
#   _streams/       one stream, and the response
#   _publishing/    publishing over HTTP
#   _runs/          streams that outlive their clients
#   publisher/  client/  testing/  compat/  inspector/  metrics  tracing  _cli/

import typing

from ._channels.ends import EventChannelStatistics as EventChannelStatistics
from ._channels.opening import open_event_channel as open_event_channel
from ._channels.receive_channel import EventReceiveChannel as EventReceiveChannel
from ._channels.send_channel import EventSendChannel as EventSendChannel
from ._errors import EventSourceError as EventSourceError
from ._errors import EventTooLargeError as EventTooLargeError
from ._errors import HoldLostError as HoldLostError
from ._errors import InvalidEventError as InvalidEventError
from ._errors import RunExistsError as RunExistsError
from ._errors import SendTimeoutError as SendTimeoutError
from ._errors import SSEError as SSEError
from ._errors import StoreUnavailableError as StoreUnavailableError
from ._errors import StreamRefusedError as StreamRefusedError
from ._errors import UnknownEventError as UnknownEventError
from ._groups.group import StreamGroup as StreamGroup
from ._groups.group import StreamGroupStatistics as StreamGroupStatistics
from ._groups.statistics import StreamObserver as StreamObserver
from ._groups.statistics import StreamStatistics as StreamStatistics
from ._hubs.feed import FeedStatistics as FeedStatistics
from ._hubs.hub import Hub as Hub
from ._hubs.hub import HubStatistics as HubStatistics
from ._hubs.hub import open_hub as open_hub
from ._hubs.past import HubHistory as HubHistory
from ._hubs.subscription import Subscription as Subscription
from ._hubs.subscription import SubscriptionStatistics as SubscriptionStatistics
from ._publishing.endpoint import publish_endpoint as publish_endpoint
from ._reasons import CloseReason as CloseReason
from ._reasons import RefusalReason as RefusalReason
from ._requests.headers import accepts_event_stream as accepts_event_stream
from ._requests.headers import last_event_id as last_event_id
from ._requests.headers import preferred_media_type as preferred_media_type
from ._runs.ending import RunEnd as RunEnd
from ._runs.opening import open_runs as open_runs
from ._runs.record import RunStatus as RunStatus
from ._runs.runs import Runs as Runs
from ._runs.statistics import Run as Run
from ._runs.statistics import RunObserver as RunObserver
from ._runs.statistics import RunsStatistics as RunsStatistics
from ._servers.bridge import ServerBridge as ServerBridge
from ._streams.response import EventSourceResponse as EventSourceResponse
from ._typed.event_type import EventType as EventType
from ._typed.event_types import EventTypes as EventTypes
from ._wire.decoder import EventDecoder as EventDecoder
from ._wire.event import ServerSentEvent as ServerSentEvent
from ._wire.received import ReceivedEvent as ReceivedEvent

__all__ = (
    "CloseReason",
    "EventChannelStatistics",
    "EventDecoder",
    "EventReceiveChannel",
    "EventSendChannel",
    "EventSourceError",
    "EventSourceResponse",
    "EventTooLargeError",
    "EventType",
    "EventTypes",
    "FeedStatistics",
    "HoldLostError",
    "Hub",
    "HubHistory",
    "HubStatistics",
    "InvalidEventError",
    "ReceivedEvent",
    "RefusalReason",
    "Run",
    "RunEnd",
    "RunExistsError",
    "RunObserver",
    "RunStatus",
    "Runs",
    "RunsStatistics",
    "SSEError",
    "SendTimeoutError",
    "ServerBridge",
    "ServerSentEvent",
    "StoreUnavailableError",
    "StreamGroup",
    "StreamGroupStatistics",
    "StreamObserver",
    "StreamRefusedError",
    "StreamStatistics",
    "Subscription",
    "SubscriptionStatistics",
    "UnknownEventError",
    "accepts_event_stream",
    "last_event_id",
    "open_event_channel",
    "open_hub",
    "open_runs",
    "preferred_media_type",
    "publish_endpoint",
)

if typing.TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        # Looked up when asked for, since reading the installed metadata takes longer than importing the package.
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415

            return version("sse-trio")
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
