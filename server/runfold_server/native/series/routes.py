"""series:query of the native API: many series on one x grid, for a chart, in binary or as JSON."""

import asyncio
import struct
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from runfold_projections.charts.grid import XAxis, drawable
from runfold_projections.postgres.connection import Connection
from runfold_projections.run_search.run_finder import run_ids_by_sql
from runfold_projections.runs.groups import groups_of
from runfold_projections.runs.queries import ViewType, parse_search, start_times
from runfold_projections.series.keys import keys_of_runs
from runfold_projections.series.points import read_series
from runfold_projections.series.summaries_as_of import keys_of_runs_at
from runfold_projections.series.visible_points import read_visible_runs
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector
from runfold_server.freshness.stream_position import stream_position
from runfold_server.http.messages import NoFields
from runfold_server.http.operation import RawCall, RawOperation, TimeTravel
from runfold_server.http.request_body import read_body
from runfold_server.http.responses import json_answer, with_moment
from runfold_server.http.services import Services
from runfold_server.mlflow.validation import parse_experiment_id
from runfold_server.openapi_schemas.common import JSON, NULLABLE_NUMBER, NULLABLE_TEXT, POSITIONS, TEXT, having, listed
from runfold_server.reads.moments import requested_moment
from runfold_server.reads.reader import Consistency, ReadResult
from runfold_server.reads.scopes import of_topics

from .chart import Drawn, Found, draw
from .history import LIVE
from .query import BODY, MOST_KEYS, Except, Filter, Matching, SeriesRequest, check_counts, parse

MEDIA_TYPE = "application/vnd.runfold.series"
_MOST_BODY = 1024 * 1024
Json = dict[str, Any]


async def _query(services: Services, call: RawCall[NoFields]) -> Response:
    request = call.http
    wanted = parse(await read_body(request, _MOST_BODY))
    if isinstance(wanted.query.runs, Filter) and requested_moment(request):
        # A search goes over everything: the past's read models answer it, and have the points of its moment alone.
        async with services.reads.snapshots.open_for(services.reads.moments, request) as past:
            shown = await past.reader.read(
                of_topics(), lambda connection: _find(connection, wanted, None), consistency=Consistency.EVENTUAL
            )
        return await _answer(services, request, wanted, shown, past.vector)
    # What a search finds hangs on experiments, too.
    topics = (Topic.METRICS, Topic.RUNS, *([Topic.EXPERIMENTS] if isinstance(wanted.query.runs, Filter) else []))
    as_of = await services.reads.moments.of_request(request)

    async def read(connection: Connection) -> Found:
        return await _find(connection, wanted, as_of)

    reader = services.reads.pattern_reader if isinstance(wanted.query.metrics, Matching) else services.reads.reader
    shown = await reader.read(of_topics(*topics), read, as_of=as_of, consistency=Consistency(wanted.query.consistency))
    return await _answer(services, request, wanted, shown, as_of)


async def _answer(
    services: Services, request: Request, wanted: SeriesRequest, shown: ReadResult[Found], as_of: Vector | None
) -> Response:
    drawn = await asyncio.to_thread(draw, wanted, shown.value)
    drawn.head["positions"] = shown.positions_json()
    position = stream_position(services.log.info, shown.value.runs, shown.positions)
    if position is not None:
        drawn.head["live"] = str(position)
    if MEDIA_TYPE in request.headers.get("accept", ""):
        return with_moment(Response(await asyncio.to_thread(_binary, drawn), media_type=MEDIA_TYPE), as_of)
    answer = drawn.head | {"x_values": drawn.chart.x.tolist(), "columns": _as_lists(drawn)}
    return with_moment(await json_answer(answer), as_of)


async def _find(connection: Connection, wanted: SeriesRequest, as_of: Vector | None) -> Found:
    query = wanted.query
    runs = await _searched(connection, query.runs) if isinstance(query.runs, Filter) else query.runs
    keys = query.metrics
    if isinstance(keys, Matching):
        if as_of is None:
            keys = await keys_of_runs(connection, runs, keys.regex, MOST_KEYS + 1)
        else:
            keys = await keys_of_runs_at(connection, runs, keys.regex, MOST_KEYS + 1, as_of)
    check_counts(runs, keys)
    starts = await start_times(connection, runs) if wanted.x is XAxis.RELATIVE else {}
    groups = None
    if isinstance(query.group_by, Except):
        groups = await groups_of(connection, runs, None, query.group_by.names, as_of)
    elif query.group_by is not None:
        groups = await groups_of(connection, runs, query.group_by, as_of=as_of)
    read = keys if wanted.along is None else [*keys, wanted.along]
    lines = await read_visible_runs(connection, runs, wanted.branches, as_of)
    return Found(runs, keys, await read_series(connection, runs, read, lines), starts, groups)


async def _searched(connection: Connection, of: Filter) -> list[str]:
    experiments = [parse_experiment_id(text) for text in of.experiment_ids]
    search = await parse_search(connection, experiments, of.filter, ViewType.ACTIVE_ONLY, ())
    return await run_ids_by_sql(connection, search, of.limit, 0)


def _as_lists(drawn: Drawn) -> list[list[list[float | None]]]:
    return [
        [[None if value != value else value for value in column.tolist()] for column in own]
        for own in drawn.chart.columns
    ]


def _binary(drawn: Drawn) -> bytes:
    text = msgspec.json.encode(drawn.head)
    # x must lie at a multiple of 8 bytes, so that a browser views it without a copy.
    text += b" " * (-(4 + len(text)) % 8)
    parts = [struct.pack("<I", len(text)), text, drawn.chart.x.astype("<f8").tobytes()]
    parts += [_float32(column).tobytes() for own in drawn.chart.columns for column in own]
    return b"".join(parts)


def _float32(column: Any) -> Any:
    return (column if column.dtype == np.float32 else drawable(column)).astype("<f4", copy=False)


_NAMED = {
    "run_id": TEXT,
    "group": {"type": "object", "additionalProperties": NULLABLE_TEXT},
    "rank": {"type": "integer"},
}
_SERIES = having(
    {
        "metric": TEXT,
        "cols": listed(TEXT),
        "raw_points": {"type": "integer", "minimum": 1},
        "nonfinite": listed(listed({"type": ["number", "string"]})),
        "last": listed(NULLABLE_NUMBER),
    },
    {**_NAMED, "members": {"type": "integer", "minimum": 1, "description": "Lines in an aggregate."}},
)
_HEAD = having(
    {
        "n": {"type": "integer", "minimum": 0},
        "exact": {"type": "boolean"},
        "x": having({"kind": TEXT, "min": {"type": "number"}, "max": {"type": "number"}}),
        "y": having(
            {"min": NULLABLE_NUMBER, "max": NULLABLE_NUMBER},
            {"clip": {"type": ["array", "null"], "items": {"type": "number"}}},
        ),
        "series": listed(_SERIES),
        "positions": POSITIONS,
        "x_values": listed({"type": "number"}),
        "columns": listed(listed(listed(NULLABLE_NUMBER))),
    },
    {"live": LIVE},
)
OPERATIONS = (
    RawOperation(
        "POST",
        "/api/runfold/v1/series:query",
        NoFields,
        _query,
        "Many series on one x grid for a chart: exact points where they are few, else so many buckets as the chart "
        "has pixels; lines of runs, "
        "of ranks, or aggregates over them, smoothed if asked for. "
        f"JSON, or binary where {MEDIA_TYPE} is accepted. Of the past, runs that a filter finds are found in a "
        "past of the moment.",
        {200: (JSON, _HEAD)},
        body_type=JSON,
        body=BODY,
        also=MEDIA_TYPE,
        time_travel=TimeTravel.AS_OF,
        errors=(400, 409, 413, 503),
    ),
)
