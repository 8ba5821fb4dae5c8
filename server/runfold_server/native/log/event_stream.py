"""events:stream of the native API: what is appended to the log, as server-sent events, from any place in it on."""

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from runfold_log.admin import LogInfo
from runfold_schemas.positions.topics import Topic
from runfold_server.core.errors import InvalidParameter
from runfold_server.core.outages import kafka_outages
from runfold_server.http.operation import RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.request_fields import Args, Field, Kind, parse_query
from runfold_server.http.services import Services
from runfold_server.http.sse import MEDIA_TYPE, EventStream, Say, event
from runfold_server.openapi_schemas.common import TEXT
from runfold_server.security.admission import Taken
from runfold_server.streams.events.feed import Feed
from runfold_server.streams.events.filters import Filter, patterns
from runfold_server.streams.events.start_positions import NOW, write_id
from runfold_server.streams.events.subscription import Following
from runfold_server.streams.log_reader import Gone
from runfold_server.streams.send_queue import End

HEARTBEAT = 15.0
"""Seconds without an event after which one says that the stream lives, and how far it is."""
AT_ONCE = 256 * 1024
"""Bytes after which events are sent, though more wait."""
_IN_LOOP = 16 * 1024
_MOST = 500
_TRUTH = ("true", "false")
_QUERY = (
    Field("from", default=""),
    Field("topic", Kind.STRINGS),
    Field("type", Kind.STRINGS),
    Field("entity", Kind.STRINGS, most=_MOST, unfit="{} entities are asked for: at most 500."),
    Field("experiment_id", Kind.STRINGS, most=_MOST, unfit="{} experiments are asked for: at most 500."),
    Field("actor", Kind.STRINGS, most=_MOST, unfit="{} actors are asked for: at most 500."),
    Field("workspace", Kind.STRINGS, most=_MOST, unfit="{} workspaces are asked for: at most 500."),
    Field("outcome", Kind.CHOICE, default="false", choices=_TRUTH),
    Field("points", Kind.CHOICE, default="true", choices=_TRUTH),
)


async def _stream(services: Services, request: Request) -> Response:
    args = parse_query(_QUERY, request.query_params.multi_items())
    feed = services.streams.events.decided if args["outcome"] == "true" else services.streams.events.plain
    with feed.places.take(request) as place:
        return await _events_of(services, request, args, feed, place)


async def _events_of(services: Services, request: Request, args: Args, feed: Feed, place: Taken) -> Response:
    wanted = _filter(args)
    with kafka_outages():
        info = await services.log.connect()
    # A browser that connects again says what it was told last; the address is still that of the first time.
    start = request.headers.get("last-event-id") or args["from"] or NOW
    try:
        following = Following(wanted, await services.streams.events.starts.place(start, info, wanted.partitions(info)))
    except Gone as error:
        # Not a 400: a browser would give up silently instead of hearing what to do.
        following = Following(wanted, {})
        following.finish(End.GONE, str(error))
    return _Events(feed, following, info, place, points=args["points"] == "true")


def _filter(args: Args) -> Filter:
    try:
        topics = frozenset(Topic(name) for name in args["topic"]) or frozenset(Topic)
    except ValueError:
        raise InvalidParameter(f"Parameter 'topic': each is one of {', '.join(Topic)}.") from None
    if not all(text.isascii() and text.isdecimal() and len(text) < 20 for text in args["experiment_id"]):
        raise InvalidParameter("Parameter 'experiment_id': each is a whole number.")
    return Filter(
        topics,
        patterns(args["type"]),
        frozenset(args["entity"]),
        frozenset(int(text) for text in args["experiment_id"]),
        frozenset(args["actor"]),
        frozenset(args["workspace"]),
    )


class _Events(EventStream):
    """Tells what is followed."""

    def __init__(self, feed: Feed, following: Following, info: LogInfo, place: Taken, *, points: bool) -> None:
        super().__init__(place)
        self._feed, self._following, self._info, self._points = feed, following, info, points

    async def tell(self, say: Say) -> None:
        following = self._following
        await say(self._said("open", {}))
        async with self._feed.followed(following, self._info):
            while True:
                await following.wait(HEARTBEAT)
                if following.end is not None:
                    await say(self._said("end", {"reason": following.end.value, "message": following.reason}))
                    return
                following.told_all()
                await say(await self._events() or self._said("heartbeat", {}))

    async def _events(self) -> bytes:
        """What waits, up to about AT_ONCE bytes."""
        following, parts, size = self._following, [], 0
        while size < AT_ONCE and (entry := following.peek()) is not None:
            if len(entry.raw.value or b"") > _IN_LOOP:
                kind, data = await asyncio.to_thread(entry.told, self._points)
                if following.peek() is not entry:
                    break  # the stream was ended meanwhile
            else:
                kind, data = entry.told(self._points)
            following.pop()
            following.told_all()
            parts.append(event(kind, write_id(self._info.log_id, following.told), data))
            size += len(parts[-1])
        return b"".join(parts)

    def _said(self, kind: str, data: dict[str, Any]) -> bytes:
        told = self._following.told
        # An empty id makes a browser forget its own: there was no such place.
        return event(kind, write_id(self._info.log_id, told) if told else "", msgspec.json.encode(data))


OPERATIONS = (
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/events:stream",
        _stream,
        "Events of the log as they are appended, as server-sent events: one per record, named by its type, with the event in CloudEvents' "
        "JSON form and its position and broker time. Also `open`, `heartbeat`, `unreadable` (a record that is no event, or of a newer "
        "release), and `end` with the reason why the server ends the stream (`slow`, `stopped`, `gone`). Each id is the position vector "
        "behind the event: with it as header Last-Event-ID, or as `from`, a stream goes on without a gap or a repeat in any partition.",
        {200: (MEDIA_TYPE, TEXT)},
        _QUERY,
        errors=(400, 429, 503),
    ),
)
