"""events:stream of the native API: what is appended to the log, as server-sent events, from any place in it on."""

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from starlette.responses import Response

from runfold_log.admin import LogInfo
from runfold_schemas.positions.topics import Topic
from runfold_server.core.errors import InvalidParameter
from runfold_server.core.outages import kafka_outages
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import RawCall, RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.services import Services
from runfold_server.http.sse import MEDIA_TYPE, EventStream, SendEvents, encode_event
from runfold_server.openapi_schemas.common import TEXT
from runfold_server.security.slots import Slot
from runfold_server.streams.events.feed import EventFeed
from runfold_server.streams.events.filters import Filter, patterns
from runfold_server.streams.events.start_positions import NOW, write_id
from runfold_server.streams.events.subscription import EventSubscription
from runfold_server.streams.log_reader import Gone
from runfold_server.streams.send_queue import End

HEARTBEAT = 15.0
"""Seconds without an event after which one says that the stream lives, and how far it is."""
AT_ONCE = 256 * 1024
"""Bytes after which events are sent, though more wait."""
_IN_LOOP = 16 * 1024
_MOST = 500
Truth = Literal["true", "false"]


def _most(what: str) -> Rule:
    return Rule(most=_MOST, unfit=f"{{}} {what} are asked for: at most {_MOST}.")


class FollowEvents(Message, frozen=True):
    """events:stream."""

    start: Annotated[str, Rule(name="from")] = ""
    topic: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    entity: Annotated[tuple[str, ...], _most("entities")] = ()
    experiment_id: Annotated[tuple[str, ...], _most("experiments")] = ()
    actor: Annotated[tuple[str, ...], _most("actors")] = ()
    workspace: Annotated[tuple[str, ...], _most("workspaces")] = ()
    outcome: Truth = "false"
    points: Truth = "true"


async def _stream(services: Services, call: RawCall[FollowEvents]) -> Response:
    feed = services.streams.events.decided if call.request.outcome == "true" else services.streams.events.plain
    with feed.slots.acquire(call.http) as place:
        return await _events_of(services, call, feed, place)


async def _events_of(services: Services, call: RawCall[FollowEvents], feed: EventFeed, place: Slot) -> Response:
    wanted = _filter(call.request)
    with kafka_outages():
        info = await services.log.connect()
    # A browser that connects again names the last event that it received; the address is still that of the first time.
    start = call.http.headers.get("last-event-id") or call.request.start or NOW
    try:
        following = EventSubscription(
            wanted, await services.streams.events.starts.place(start, info, wanted.partitions(info))
        )
    except Gone as error:
        # Not a 400: a browser would give up silently instead of hearing what to do.
        following = EventSubscription(wanted, {})
        following.finish(End.GONE, str(error))
    return _Events(feed, following, info, place, points=call.request.points == "true")


def _filter(request: FollowEvents) -> Filter:
    try:
        topics = frozenset(Topic(name) for name in request.topic) or frozenset(Topic)
    except ValueError:
        raise InvalidParameter(f"Parameter 'topic': each is one of {', '.join(Topic)}.") from None
    if not all(text.isascii() and text.isdecimal() and len(text) < 20 for text in request.experiment_id):
        raise InvalidParameter("Parameter 'experiment_id': each is a whole number.")
    return Filter(
        topics,
        patterns(request.type),
        frozenset(request.entity),
        frozenset(int(text) for text in request.experiment_id),
        frozenset(request.actor),
        frozenset(request.workspace),
    )


class _Events(EventStream):
    """Tells what is followed."""

    def __init__(
        self, feed: EventFeed, following: EventSubscription, info: LogInfo, place: Slot, *, points: bool
    ) -> None:
        super().__init__(place)
        self._feed, self._following, self._info, self._points = feed, following, info, points

    async def run(self, send: SendEvents) -> None:
        following = self._following
        await send(self._encode("open", {}))
        async with self._feed.feeding(following, self._info):
            while True:
                await following.wait_for_items(HEARTBEAT)
                if following.end is not None:
                    await send(self._encode("end", {"reason": following.end.value, "message": following.reason}))
                    return
                following.mark_all_sent()
                await send(await self._events() or self._encode("heartbeat", {}))

    async def _events(self) -> bytes:
        """What waits, up to about AT_ONCE bytes."""
        following, parts, size = self._following, [], 0
        while size < AT_ONCE and (entry := following.peek()) is not None:
            if len(entry.raw.value or b"") > _IN_LOOP:
                kind, data = await asyncio.to_thread(entry.encode, self._points)
                if following.peek() is not entry:
                    break  # the stream was ended meanwhile
            else:
                kind, data = entry.encode(self._points)
            following.pop()
            following.mark_all_sent()
            parts.append(encode_event(kind, write_id(self._info.log_id, following.sent), data))
            size += len(parts[-1])
        return b"".join(parts)

    def _encode(self, kind: str, data: dict[str, Any]) -> bytes:
        position = self._following.sent
        # An empty id makes a browser forget its own: there was no such place.
        return encode_event(kind, write_id(self._info.log_id, position) if position else "", msgspec.json.encode(data))


OPERATIONS = (
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/events:stream",
        FollowEvents,
        _stream,
        "Events of the log as they are appended, as server-sent events: one per record, named by its type, with "
        "the event in CloudEvents' "
        "JSON form and its position and broker time. Also `open`, `heartbeat`, `unreadable` (a record that is no "
        "event, or of a newer "
        "release), and `end` with the reason why the server ends the stream (`slow`, `stopped`, `gone`). Each id "
        "is the position vector "
        "behind the event: with it as header Last-Event-ID, or as `from`, a stream goes on without a gap or a "
        "repeat in any partition.",
        {200: (MEDIA_TYPE, TEXT)},
        errors=(400, 429, 503),
    ),
)
