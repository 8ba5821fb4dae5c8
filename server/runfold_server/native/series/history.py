"""series:history of the native API: every distinct point of many series, as an Arrow stream or as JSON.

All is read in one snapshot into a file that stays in memory while it is small, and sent from there: a slow client holds
no connection to Postgres, and a fault while reading is an error, not half an answer. `reading.exports` bounds how many
of them there are.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from starlette.responses import Response

from runfold_projections.core.errors import BadQuery
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_projections.series.full_history import HistoryFilter, SourceHistory, read_histories, unknown_runs
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector
from runfold_server.core.entity_errors import no_run
from runfold_server.core.errors import BadBody, InvalidParameter
from runfold_server.freshness.stream_position import stream_position
from runfold_server.http.large_json import refuse_many
from runfold_server.http.messages import NoFields
from runfold_server.http.operation import RawCall, RawOperation, TimeTravel
from runfold_server.http.request_body import read_body
from runfold_server.http.responses import with_moment
from runfold_server.http.services import Services
from runfold_server.native.branches import which
from runfold_server.openapi_schemas.common import INT64, JSON, MS, POSITIONS, TEXT, having, listed
from runfold_server.reads.exports import Export, Spool
from runfold_server.reads.reader import Consistency
from runfold_server.reads.scopes import of_topics
from runfold_server.security.slots import Slot

from . import arrow
from .arrow import Column, Type
from .json_numbers import NATIVE_NUMBER, numbers
from .query import BRANCHES

MOST_RUNS, MOST_KEYS, MOST_SERIES = 500, 500, 2_000
MOST_POINTS = 50_000_000
"""Points of one answer."""
BATCH_ROWS = 65_536
_MOST_BODY = 1024 * 1024
Json = dict[str, Any]
Head = dict[str, Any]


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """Which points: every metric of every run; `steps` are the first and the last, both included, each may be null."""

    runs: list[str]
    metrics: list[str]
    steps: tuple[int | None, int | None] = (None, None)
    rank: int | None = None
    attempt: str | None = None
    branches: str | int = "effective"
    consistency: str = "strong"


class Form(Protocol):
    """How points become bytes: `add` gives what to write now, `end` the rest, `front` what stands before all of it."""

    media_type: str

    def add(self, source: SourceHistory) -> Sequence[bytes]: ...

    def end(self) -> Sequence[bytes]: ...

    def front(self, head: Head) -> bytes: ...


async def _history(services: Services, call: RawCall[NoFields]) -> Response:
    request = call.http
    query = _parse(await read_body(request, _MOST_BODY))
    wanted = HistoryFilter(*query.steps, query.rank, query.attempt, which(query.branches))
    in_arrow = arrow.MEDIA_TYPE in request.headers.get("accept", "")
    as_of = await services.reads.moments.of_request(request)
    with await services.reads.exports.slots.acquire_within(request, services.config.read_wait) as place:
        return await _export(services, query, wanted, Asked(in_arrow, as_of, place))


class Asked(NamedTuple):
    """How an answer is asked for, and the place that it takes."""

    in_arrow: bool
    as_of: Vector | None
    place: Slot


async def _export(services: Services, query: Query, wanted: HistoryFilter, asked: Asked) -> Response:
    in_arrow, as_of, taken = asked

    async def read(connection: Connection) -> tuple[Form, Spool]:
        unknown = await unknown_runs(connection, query.runs, as_of)
        if unknown:
            raise no_run(unknown[0], as_of)
        form = ArrowForm(query.runs, query.metrics) if in_arrow else JsonForm()
        sources = read_histories(connection, query.runs, query.metrics, wanted, as_of)
        return form, await _spool(sources, form, Spool(services.reads.exports))

    async with services.reads.exports.reading:
        # All partitions: a run may show points of those that it was forked from.
        scope = of_topics(Topic.METRICS, Topic.RUNS)
        shown = await services.reads.reader.read(scope, read, as_of=as_of, consistency=Consistency(query.consistency))
    form, spool = shown.value
    head: Head = {"positions": shown.positions_json()}
    place = stream_position(services.log.info, query.runs, shown.positions)
    try:
        front = form.front(head | ({} if place is None else {"live": str(place)}))
        return with_moment(Export(front, spool, taken, form.media_type), as_of)
    except BaseException:
        spool.close()
        raise


def _parse(body: bytes) -> Query:
    refuse_many(body)
    try:
        query = msgspec.json.decode(body, type=Query)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadBody(f"The body is no question for histories: {error}") from None
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
    unknown = [run_id for run_id in query.runs if not storable(run_id)]
    if unknown:
        raise no_run(unknown[0])
    for bound in (*query.steps, query.rank):
        if bound is not None and not -(2**63) <= bound < 2**63:
            raise InvalidParameter(f"Parameters 'steps' and 'rank' are 64-bit numbers; got {bound}.")
    return query


async def _spool(sources: AsyncIterator[SourceHistory], form: Form, spool: Spool) -> Spool:
    try:
        points = 0
        async for source in sources:
            points += len(source.steps)
            if points > MOST_POINTS:
                raise BadQuery(
                    f"More than {MOST_POINTS:,} points are asked for; ask for fewer series, or for a range of `steps`."
                )
            await asyncio.to_thread(_write, spool, form, source)
        await asyncio.to_thread(_write, spool, form, None)
    except BaseException:
        spool.close()
        raise
    return spool


def _write(spool: Spool, form: Form, source: SourceHistory | None) -> None:
    spool.write(form.end() if source is None else form.add(source))


class ArrowForm:
    """One table for all series. Batches are made whole from what many sources have."""

    media_type = arrow.MEDIA_TYPE
    columns = (
        Column("run_id", Type.TEXT),
        Column("key", Type.TEXT),
        Column("attempt", Type.TEXT),
        Column("rank", Type.INT32),
        Column("branch", Type.INT32),
        Column("step", Type.INT64),
        Column("time", Type.TIME),
        Column("value", Type.DOUBLE),
    )

    def __init__(self, run_ids: Sequence[str], keys: Sequence[str]) -> None:
        self._texts = [{text: n for n, text in enumerate(texts)} for texts in (run_ids, keys, ())]
        self._waiting: list[Sequence[Any]] = []
        self._rows = 0

    def add(self, source: SourceHistory) -> Sequence[bytes]:
        codes = [index.setdefault(text, len(index)) for index, text in zip(self._texts, source[:3], strict=True)]
        if len(self._texts[2]) > arrow.MOST_TEXTS:
            raise BadQuery(f"The series have more than {arrow.MOST_TEXTS} attempts; ask for fewer runs at once.")
        rows = len(source.steps)
        done: list[bytes] = []
        for at in range(0, rows, BATCH_ROWS):
            piece = slice(at, min(rows, at + BATCH_ROWS))
            same = [
                np.full(piece.stop - at, code, column.type.dtype)
                for code, column in zip((*codes, source.rank, source.branch), self.columns, strict=False)
            ]
            self._waiting.append((*same, source.steps[piece], source.times[piece], source.values[piece]))
            self._rows += piece.stop - at
            if self._rows >= BATCH_ROWS:
                done += self._batch()
        return done

    def _batch(self) -> Sequence[bytes]:
        if not self._waiting:
            return []
        rows = (
            self._waiting[0]
            if len(self._waiting) == 1
            else [np.concatenate(c) for c in zip(*self._waiting, strict=True)]
        )
        self._waiting, self._rows = [], 0
        return [arrow.batch(self.columns, rows)]

    def end(self) -> Sequence[bytes]:
        return [*self._batch(), arrow.END]

    def front(self, head: Head) -> bytes:
        said = {
            f"runfold.{name}": v if isinstance(v, str) else msgspec.json.encode(v).decode() for name, v in head.items()
        }
        texts = (arrow.dictionary(n, list(index)) for n, index in enumerate(self._texts))
        return arrow.schema(self.columns, said) + b"".join(texts)


class JsonForm:
    """An object per source, with its steps, times and values as lists."""

    media_type = JSON

    def __init__(self) -> None:
        self._some = False

    def add(self, source: SourceHistory) -> Sequence[bytes]:
        name = {
            "run_id": source.run_id,
            "metric": source.key,
            "attempt": source.attempt,
            "rank": source.rank,
            "branch": source.branch,
        }
        parts = [b"," if self._some else b"", msgspec.json.encode(name)[:-1]]
        self._some = True
        for title, column in (("steps", source.steps), ("times", source.times), ("values", source.values)):
            parts.append(f',"{title}":['.encode())
            for at in range(0, len(column), BATCH_ROWS):
                piece = column[at : at + BATCH_ROWS]
                items = numbers(piece) if column is source.values else piece.tolist()
                parts += (b"," if at else b"", msgspec.json.encode(items)[1:-1])
            parts.append(b"]")
        return [*parts, b"}"]

    def end(self) -> Sequence[bytes]:
        return [b"]}"]

    def front(self, head: Head) -> bytes:
        return msgspec.json.encode(head)[:-1] + b',"series":['


_SERIES = having(
    {
        "run_id": TEXT,
        "metric": TEXT,
        "attempt": TEXT,
        "rank": {**INT64, "description": "-1 where the writer named none."},
        "branch": {**INT64, "description": "Of the run that the points were logged to."},
        "steps": listed(INT64),
        "times": listed(MS),
        "values": listed(NATIVE_NUMBER),
    }
)
LIVE = {"type": "string", "description": "Where this answer ends: `since` of a live stream that goes on from here."}
_BODY = having(
    {
        "runs": {**listed(TEXT), "maxItems": MOST_RUNS},
        "metrics": {**listed(TEXT), "maxItems": MOST_KEYS},
    },
    {
        "steps": {
            "type": "array",
            "items": {"type": ["integer", "null"]},
            "minItems": 2,
            "maxItems": 2,
            "description": "First and last step, both included; null for no end.",
        },
        "rank": {"type": ["integer", "null"], "description": "This rank alone; -1 for writers that named none."},
        "attempt": {"type": ["string", "null"], "description": "This attempt alone."},
        "branches": BRANCHES,
        "consistency": {"enum": [str(one) for one in Consistency]},
    },
)
OPERATIONS = (
    RawOperation(
        "POST",
        "/api/runfold/v1/series:history",
        NoFields,
        _history,
        "Every point of many series, each once, with attempt, rank, step, time and value. Per attempt (in the "
        "order of their appearance), branch and "
        f"rank, by step, time and value. JSON, or an Arrow IPC stream where {arrow.MEDIA_TYPE} is accepted. At "
        f"most {MOST_POINTS:,} points.",
        {200: (JSON, having({"series": listed(_SERIES), "positions": POSITIONS}, {"live": LIVE}))},
        body_type=JSON,
        body=_BODY,
        also=arrow.MEDIA_TYPE,
        time_travel=TimeTravel.AS_OF,
        errors=(400, 404, 413, 429, 503),
    ),
)
