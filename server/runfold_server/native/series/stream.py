"""series:live of the native API: points of series as server-sent events, from where a history answer ended on."""

import asyncio
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from runfold_log.admin import LogInfo
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_projections.series.duplicates import LoggedPoints
from runfold_projections.series.full_history import unknown_runs
from runfold_schemas.positions.topics import Topic
from runfold_server.core.entity_errors import no_run
from runfold_server.core.errors import InvalidParameter
from runfold_server.core.outages import kafka_outages
from runfold_server.freshness.stream_position import StreamPosition, partitions_of, stream_position
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import RawCall, RawOperation
from runfold_server.http.services import Services
from runfold_server.http.sse import MEDIA_TYPE, EventStream, SendEvents, encode_event
from runfold_server.openapi_schemas.common import TEXT
from runfold_server.reads.scopes import of_runs
from runfold_server.security.slots import Slot
from runfold_server.streams.series.deduplication import Deduplicator
from runfold_server.streams.series.feed import SeriesFeed
from runfold_server.streams.series.subscription import Cut, SeriesSubscription, merged

from .json_numbers import numbers

MOST_RUNS, MOST_KEYS = 500, 500
HEARTBEAT = 15.0
"""Seconds without an event after which one says that the stream lives, and how far it is."""
GATHER = 0.1
"""Seconds between two events, so that points of many small records come together; the first after a silence comes at
once.
"""


class FollowSeries(Message, frozen=True):
    """series:live."""

    run_id: Annotated[tuple[str, ...], Rule(least=1, most=MOST_RUNS, unfit="{} runs are asked for: 1 to 500.")]
    key: Annotated[tuple[str, ...], Rule(least=1, most=MOST_KEYS, unfit="{} keys are asked for: 1 to 500.")]
    rank: Annotated[int | None, Rule(bits=32, least=-1)] = None
    since: str = ""


async def _live(services: Services, call: RawCall[FollowSeries]) -> Response:
    with services.streams.series.slots.acquire(call.http) as place:
        return await _series_of(services, call, place)


async def _series_of(services: Services, call: RawCall[FollowSeries], place: Slot) -> Response:
    request = call.request
    runs, keys = list(dict.fromkeys(request.run_id)), list(dict.fromkeys(request.key))
    # A browser that reconnects sends the id of its last event; its address is still the first one.
    since = call.http.headers.get("last-event-id") or request.since
    given = StreamPosition.parse(since) if since else None
    with kafka_outages():
        info = await services.log.connect()
    unknown = [run_id for run_id in runs if not storable(run_id)]
    if unknown:
        raise no_run(unknown[0])
    now = stream_position(info, runs, await _positions_with(services, runs))
    assert now is not None
    if given is not None:
        _check(given, now, partitions_of(info, runs))
    subscription = SeriesSubscription(runs, keys, request.rank, given or now)
    return _Series(services.streams.series, subscription, info, Deduplicator(services.reads.reader), place)


async def _positions_with(services: Services, runs: list[str]) -> Any:
    async def read(connection: Connection) -> list[str]:
        return await unknown_runs(connection, runs)

    shown = await services.reads.reader.read(of_runs(runs, Topic.RUNS), read)
    if shown.value:
        raise no_run(shown.value[0])
    return shown.positions


def _check(given: StreamPosition, now: StreamPosition, partitions: set[int]) -> None:
    if given.log_id != now.log_id:
        raise InvalidParameter("Parameter 'since' is of another log than this server's; read the histories again.")
    if set(given.offsets) != partitions:
        raise InvalidParameter(
            "Parameter 'since' is of an answer about other runs; ask with the runs that it is about."
        )


class _Series(EventStream):
    """Tells a subscription."""

    def __init__(
        self,
        feed: SeriesFeed,
        subscription: SeriesSubscription,
        info: LogInfo,
        deduplicator: Deduplicator,
        place: Slot,
    ) -> None:
        super().__init__(place)
        self._feed, self._subscription, self._info, self._deduplicator = feed, subscription, info, deduplicator

    async def run(self, send: SendEvents) -> None:
        subscription = self._subscription
        await send(_event("open", str(subscription.position), {}))
        async with self._feed.feeding(subscription, self._info):
            while True:
                await subscription.wait_for_items(HEARTBEAT)
                told = subscription.pop_event()
                place = str(subscription.position)
                if subscription.end is not None:
                    await send(_event("end", place, {"reason": subscription.end.value, "message": subscription.reason}))
                    return
                if isinstance(told, Cut):
                    await send(_event("cut", place, told._asdict()))
                elif told:
                    if fresh := await self._deduplicator.new_points(told):
                        await send(_event("points", place, {"series": await asyncio.to_thread(_series, fresh)}))
                    if not subscription.has_pending:
                        await asyncio.sleep(GATHER)
                else:
                    await send(_event("heartbeat", place, {}))


def _event(kind: str, place: str, data: dict[str, Any]) -> bytes:
    return encode_event(kind, place, msgspec.json.encode(data))


def _series(points: list[LoggedPoints]) -> list[dict[str, Any]]:
    return [
        {
            "run_id": run_id,
            "metric": key,
            "attempt": attempt,
            "rank": rank,
            "steps": steps.tolist(),
            "times": times.tolist(),
            "values": numbers(values),
        }
        for (run_id, key, attempt, rank), (steps, times, values) in merged(points).items()
    ]


OPERATIONS = (
    RawOperation(
        "GET",
        "/api/runfold/v1/series:live",
        FollowSeries,
        _live,
        "Points of series as they come, as server-sent events: `open`, `points` (series as series:history has "
        "them), `cut` (a rewind or declared start: points of greater steps sent before no longer count), "
        "`heartbeat`, and `end` with "
        "the reason why the server ends the stream (`slow`, `stopped`, `gone`: read the histories again). `since` "
        "is the `live` of an answer, so "
        "that nothing is missing or sent twice; without it the stream begins now. Each event's id is the place "
        "behind it: the header "
        "Last-Event-ID goes before `since`.",
        {200: (MEDIA_TYPE, TEXT)},
        errors=(400, 404, 429, 503),
    ),
)
