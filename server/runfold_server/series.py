"""series:query of the native API: many series on one x grid, for a chart, in binary or as JSON."""

import asyncio
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from runfold_projections.charts import COLUMNS, Chart, Line, Shown, X, chart, line, nonfinite
from runfold_projections.database import Connection
from runfold_projections.packs import Columns
from runfold_projections.queries.lines import read_lines
from runfold_projections.queries.runs import start_times
from runfold_projections.queries.series import read_series
from runfold_schemas.topics import Topic

from .api import Api, RawOperation
from .branches import which
from .dispatch import json_response, read_body
from .errors import BadBody, InvalidParameter
from .reads import Consistency, of_topics
from .shapes import JSON, NULLABLE_NUMBER, POSITIONS, TEXT, having, listed

MEDIA_TYPE = "application/vnd.runfold.series"
MOST_RUNS, MOST_KEYS, MOST_SERIES, MOST_PX = 500, 500, 2_000, 4_000
_MOST_BODY = 1024 * 1024
Json = dict[str, Any]


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked for: every metric of every run. `range` are the ends of x, both included."""

    runs: list[str]
    metrics: list[str]
    x: str = "step"
    range: tuple[float, float] | None = None
    px: int = 600
    agg: str = "minmax"
    consistency: str = "strong"
    branches: str | int = "effective"


@dataclass(frozen=True, slots=True)
class _Wanted:
    query: Query
    x: X
    shown: Shown


async def _query(api: Api, request: Request) -> Response:
    wanted = _parse(await read_body(request, _MOST_BODY))
    query = wanted.query

    branches = which(query.branches)

    async def read(connection: Connection) -> tuple[Mapping[str, int], Mapping[tuple[str, str], Sequence[Columns]]]:
        starts = await start_times(connection, query.runs) if wanted.x is X.RELATIVE else {}
        lines = await read_lines(connection, query.runs, branches)
        found = await read_series(connection, query.runs, query.metrics, lines)
        return starts, {name: [piece for _, piece in pieces] for name, pieces in found.items()}

    shown = await api.reader.read(Consistency(query.consistency), of_topics(Topic.METRICS, Topic.RUNS), read)
    head, drawn = await asyncio.to_thread(_draw, wanted, *shown.value)
    head["positions"] = shown.said()
    if MEDIA_TYPE in request.headers.get("accept", ""):
        return Response(_binary(head, drawn), media_type=MEDIA_TYPE)
    return json_response(head | {"x_values": drawn.x.tolist(), "columns": _as_lists(drawn)})


def _parse(body: bytes) -> _Wanted:
    try:
        query = msgspec.json.decode(body, type=Query)
        wanted = _Wanted(query, X(query.x), Shown(query.agg))
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadBody(f"The body is no series query: {error}") from None
    except ValueError:
        raise InvalidParameter(
            f"Parameter 'x' is one of {', '.join(X)}, 'agg' one of {', '.join(Shown)}; got {query.x!r} and {query.agg!r}."
        ) from None
    if query.consistency not in set(Consistency):
        raise InvalidParameter(f"Parameter 'consistency' is strong or eventual; got {query.consistency!r}.")
    query.runs, query.metrics = list(dict.fromkeys(query.runs)), list(dict.fromkeys(query.metrics))
    for name, count, most in (
        ("runs", len(query.runs), MOST_RUNS),
        ("metrics", len(query.metrics), MOST_KEYS),
        ("series (runs times metrics)", len(query.runs) * len(query.metrics), MOST_SERIES),
    ):
        if count > most:
            raise InvalidParameter(f"{count} {name} are asked for; at most {most} are answered at once.")
    if not 1 <= query.px <= MOST_PX:
        raise InvalidParameter(f"Parameter 'px' is the chart's width, 1 to {MOST_PX}; got {query.px}.")
    if query.range is not None and not (np.isfinite(query.range).all() and query.range[0] <= query.range[1]):
        raise InvalidParameter("Parameter 'range' is two finite numbers, the smaller one first.")
    return wanted


def _draw(
    wanted: _Wanted, starts: Mapping[str, int], found: Mapping[tuple[str, str], Sequence[Columns]]
) -> tuple[Json, Chart]:
    query = wanted.query
    names = [(run, key) for run in query.runs for key in query.metrics if (run, key) in found]
    lines = [line(found[name], wanted.x, starts.get(name[0], 0)) for name in names]
    drawn = chart(lines, wanted.shown, query.px, query.range)
    finite = [values[np.isfinite(values)] for own in drawn.columns for values in own]
    some = [values for values in finite if len(values)]
    y = (min(float(v.min()) for v in some), max(float(v.max()) for v in some)) if some else (None, None)
    head: Json = {
        "n": len(drawn.x),
        "exact": drawn.exact,
        "x": {"kind": wanted.x.value, "min": drawn.bounds[0], "max": drawn.bounds[1]},
        "y": {"min": y[0], "max": y[1]},
        "series": [_series(name, of, wanted.shown) for name, of in zip(names, lines, strict=True)],
    }
    return head, drawn


def _series(name: tuple[str, str], of: Line, shown: Shown) -> Json:
    last = float(of.values[-1])
    return {
        "run_id": name[0],
        "metric": name[1],
        "cols": list(COLUMNS[shown]),
        "raw_points": len(of),
        "nonfinite": [[x, value] for x, value in nonfinite(of)],
        "last": [float(of.x[-1]), last if np.isfinite(last) else None],
    }


def _as_lists(drawn: Chart) -> list[list[list[float | None]]]:
    return [
        [[None if value != value else value for value in column.tolist()] for column in own] for own in drawn.columns
    ]


def _binary(head: Json, drawn: Chart) -> bytes:
    text = msgspec.json.encode(head)
    # x must lie at a multiple of 8 bytes, so that a browser views it without a copy.
    text += b" " * (-(4 + len(text)) % 8)
    parts = [struct.pack("<I", len(text)), text, drawn.x.astype("<f8").tobytes()]
    parts += [column.astype("<f4").tobytes() for own in drawn.columns for column in own]
    return b"".join(parts)


_HEAD = having(
    {
        "n": {"type": "integer", "minimum": 0},
        "exact": {"type": "boolean"},
        "x": having(
            {"kind": {"enum": [str(kind) for kind in X]}, "min": {"type": "number"}, "max": {"type": "number"}}
        ),
        "y": having({"min": NULLABLE_NUMBER, "max": NULLABLE_NUMBER}),
        "series": listed(
            having(
                {
                    "run_id": TEXT,
                    "metric": TEXT,
                    "cols": listed(TEXT),
                    "raw_points": {"type": "integer", "minimum": 1},
                    "nonfinite": listed(listed({"type": ["number", "string"]})),
                    "last": listed(NULLABLE_NUMBER),
                }
            )
        ),
        "positions": POSITIONS,
        "x_values": listed({"type": "number"}),
        "columns": listed(listed(listed(NULLABLE_NUMBER))),
    }
)
_BODY = having(
    {
        "runs": {**listed(TEXT), "maxItems": MOST_RUNS},
        "metrics": {**listed(TEXT), "maxItems": MOST_KEYS},
    },
    {
        "x": {"enum": [str(kind) for kind in X]},
        "range": {
            "type": ["array", "null"],
            "items": {"type": "number"},
            "minItems": 2,
            "maxItems": 2,
            "description": "Ends of x, both included.",
        },
        "px": {"type": "integer", "minimum": 1, "maximum": MOST_PX, "description": "Width of the chart in pixels."},
        "agg": {"enum": [str(shown) for shown in Shown]},
        "consistency": {"enum": [str(one) for one in Consistency]},
        "branches": {
            "anyOf": [{"enum": ["effective", "all"]}, {"type": "integer", "minimum": 0}],
            "description": "The points that no later rewind or start cut off; all; or what was effective when a branch was the newest.",
        },
    },
)
OPERATIONS = (
    RawOperation(
        "POST",
        "/api/runfold/v1/series:query",
        _query,
        "Many series on one x grid for a chart: exact points where they are few, else so many buckets as the chart has pixels. "
        f"JSON, or binary where {MEDIA_TYPE} is accepted.",
        {200: (JSON, _HEAD)},
        takes=JSON,
        body=_BODY,
        also=MEDIA_TYPE,
        errors=(400, 413, 503),
    ),
)
