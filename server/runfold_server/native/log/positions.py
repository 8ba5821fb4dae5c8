"""The log as the native API shows it: how far it goes and is folded, what no fold can read, and what folds refused."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from starlette.responses import Response

from runfold_projections.operations import outcomes
from runfold_projections.operations.sequence_holes import writers_with_holes
from runfold_projections.postgres.connection import Connection
from runfold_server.freshness.end_offsets import FOLDED
from runfold_server.http.messages import Message, NoFields, Rule
from runfold_server.http.operation import RawCall, RawHandler, RawOperation, TimeTravel
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.responses import json_response
from runfold_server.http.services import Services
from runfold_server.native.query_parameters import EVENTUAL, ConsistencyName, next_page
from runfold_server.openapi_schemas.common import (
    INT64,
    JSON,
    MS,
    NULLABLE_INT,
    NULLABLE_TEXT,
    POSITION,
    POSITIONS,
    TEXT,
    Schema,
    having,
    listed,
)
from runfold_server.reads.reader import Consistency
from runfold_server.reads.scopes import of_topics

_MOST_LISTED = 1000
Json = dict[str, Any]


async def _positions(services: Services, _: RawCall[NoFields]) -> Response:
    ends, checkpoints = await asyncio.gather(services.reads.log_ends.now(), services.reads.database.checkpoints())
    info = services.log.info
    rows = [
        {
            "partition": str(where),
            "end": end,
            "checkpoint": checkpoints.get(where, 0),
            "lag": max(0, end - checkpoints.get(where, 0)),
        }
        for where, end in sorted(ends.items())
    ]
    return json_response({"log_id": info.log_id if info else "", "partitions": rows})


class ListRecords(Message, frozen=True):
    """A page of a list."""

    limit: Annotated[int, Rule(bits=32, least=0, most=_MOST_LISTED)] = 100
    offset: Annotated[int, Rule(bits=32, least=0)] = 0
    consistency: ConsistencyName = EVENTUAL


Listing = Callable[[Connection, int, int], Awaitable[Sequence[Json]]]


def _listing(name: str, query: Listing) -> RawHandler[ListRecords]:
    async def handler(services: Services, call: RawCall[ListRecords]) -> Response:
        limit, offset = call.request.limit, call.request.offset
        shown = await services.reads.reader.read(
            of_topics(*FOLDED),
            lambda connection: query(connection, limit + 1, offset),
            consistency=Consistency(call.request.consistency),
        )
        rows = shown.value
        more = next_page(len(rows), limit, offset)
        return json_response({name: list(rows[:limit]), "positions": shown.positions_json()} | more)

    return handler


async def _sequence_holes(connection: Connection, limit: int, offset: int) -> list[Json]:
    return [holes.as_json() for holes in await writers_with_holes(connection, limit, offset)]


def _list_shape(name: str, **fields: Schema) -> Schema:
    entry = having({"position": POSITION, "message": TEXT, "broker_ms": MS, **fields})
    return having({name: listed(entry), "positions": POSITIONS}, {"next_offset": INT64})


_LOG = having(
    {
        "log_id": TEXT,
        "partitions": listed(having({"partition": TEXT, "end": INT64, "checkpoint": INT64, "lag": INT64})),
    }
)
OPERATIONS = (
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/positions",
        NoFields,
        _positions,
        "How far each partition of the log goes, and how far it is folded.",
        {200: (JSON, _LOG)},
        errors=(503,),
    ),
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/set-aside",
        ListRecords,
        _listing("set_aside", outcomes.recent_dead_letters),
        "Records that no fold can read, latest first. An eventual read unless asked otherwise: it answers while "
        "Kafka is away.",
        {200: (JSON, _list_shape("set_aside", reason=TEXT, value_size=NULLABLE_INT, key=NULLABLE_TEXT))},
        errors=(400, 503),
        time_travel=TimeTravel.SNAPSHOT,
    ),
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/rejections",
        ListRecords,
        _listing("rejections", outcomes.recent_rejections),
        "Events that a fold refused, latest first. An eventual read unless asked otherwise: it answers while Kafka "
        "is away.",
        {
            200: (
                JSON,
                _list_shape("rejections", event_id=TEXT, entity=TEXT, code=TEXT, details={"type": "object"}),
            )
        },
        errors=(400, 503),
        time_travel=TimeTravel.SNAPSHOT,
    ),
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/sequence-holes",
        ListRecords,
        _listing("sequence_holes", _sequence_holes),
        "Writers with holes in their sequences: numbers that are missing below the highest received. `first` has the "
        "first missing numbers or ranges. An eventual read unless requested otherwise: it answers while Kafka is down.",
        {
            200: (
                JSON,
                having(
                    {
                        "sequence_holes": listed(
                            having(
                                {
                                    "partition": TEXT,
                                    "entity": TEXT,
                                    "writer": TEXT,
                                    "missing": INT64,
                                    "first": listed(TEXT),
                                }
                            )
                        ),
                        "positions": POSITIONS,
                    },
                    {"next_offset": INT64},
                ),
            )
        },
        errors=(400, 503),
        time_travel=TimeTravel.SNAPSHOT,
    ),
)
