"""Runfold's own API: ready events in, positions, outcomes, and what was set aside, out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runfold.log import LogInfo
from runfold_projections.database import Connection
from runfold_projections.queries import outcomes
from runfold_schemas.batch import CONTENT_TYPE, MAX_BATCH_BYTES, Outgoing, decode_batch
from runfold_schemas.catalog import FEATURE_LEVEL, released_catalog
from runfold_schemas.errors import BadRecord, SchemaError
from runfold_schemas.events import Genesis
from runfold_schemas.position import Partition, Position
from runfold_schemas.record import Raw, read_record
from runfold_schemas.topics import partition_count, partition_of
from runfold_schemas.wire import schema_id_of

from .api import Api, RawOperation
from .consistency import consistency, consistency_field
from .dispatch import json_response, read_body
from .ends import FOLDED
from .errors import ApiError, InvalidParameter, Unavailable
from .outages import kafka_outages
from .reads import Consistency, of_topics
from .requests import Field, Kind
from .shapes import INT64, JSON, MS, NULLABLE_INT, NULLABLE_TEXT, POSITION, POSITIONS, TEXT, Schema, having, listed, ref

PREFIX = "/api/runfold/v1"
_WINDOW_BYTES = 256 * 1024
_WINDOW_RECORDS = 500
_BULK_FROM = 16
_MOST_LISTED = 1000
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """A record that may be appended, and the event id under which its outcome will be found."""

    record: Outgoing
    event_id: str


def check(records: Sequence[Outgoing], partitions: int, level: int = FEATURE_LEVEL) -> list[Checked]:
    """Check every record as a worker will, and that the log's feature level has its schema; InvalidParameter names the index of the first that is bad."""
    checked = []
    for index, record in enumerate(records):
        try:
            checked.append(Checked(record, _event_id(record, partitions, level)))
        except SchemaError as error:
            reason = error.reason.value if isinstance(error, BadRecord) else "undeclared_schema"
            raise InvalidParameter(f"records[{index}]: {reason}: {error}. Nothing of the batch was appended.") from None
    return checked


def _event_id(record: Outgoing, partitions: int, level: int) -> str:
    if record.topic not in FOLDED:
        raise InvalidTopic(record)
    count = partition_count(record.topic, partitions)
    position = Position(record.topic, partition_of(record.key, count), 0)
    read = read_record(Raw(position, 0, record.key, record.value, record.headers), released_catalog(), count)
    if isinstance(read.event, Genesis):
        raise InvalidTopic(record)
    needed = released_catalog().get(schema_id_of(record.value)).level
    if needed > level:
        raise TooNew(read.event.subject, needed, level)
    return read.envelope.event_id


class InvalidTopic(SchemaError):
    """Clients write facts of tracking; the log's own records are the program's."""

    def __init__(self, record: Outgoing) -> None:
        super().__init__(
            f"clients append to {', '.join(t.value for t in FOLDED)} only, never a genesis; got {record.topic.value}"
        )


class TooNew(SchemaError):
    """Older workers would not know the schema."""

    def __init__(self, subject: str, needed: int, level: int) -> None:
        super().__init__(
            f"{subject} needs feature level {needed}, the log is at {level}: run `runfold upgrade`, then restart the servers"
        )


async def append_all(api: Api, checked: Sequence[Checked]) -> list[Position | ApiError]:
    """Append in order, a window at a time. After a failure nothing more is sent; what was not tried has the failure too."""
    bulk = len(checked) >= _BULK_FROM
    done: list[Position | ApiError] = []
    for window in _windows(checked):
        results = await asyncio.gather(*(_append(api, one, bulk) for one in window))
        done += results
        failure = next((result for result in results if isinstance(result, ApiError)), None)
        if failure is not None:
            return done + [failure] * (len(checked) - len(done))
    return done


async def _append(api: Api, one: Checked, bulk: bool) -> Position | ApiError:
    try:
        return await api.writes.append_raw(one.record, bulk=bulk)
    except ApiError as error:
        return error


def _windows(checked: Sequence[Checked]) -> list[Sequence[Checked]]:
    # Appends of one window are begun in order and land in order while the producer has room for all of them at once.
    windows: list[Sequence[Checked]] = []
    start = size = 0
    for index, one in enumerate(checked):
        length = len(one.record.value) + 1024
        if index > start and (size + length > _WINDOW_BYTES or index - start >= _WINDOW_RECORDS):
            windows.append(checked[start:index])
            start, size = index, 0
        size += length
    return [*windows, checked[start:]] if checked else []


async def _events(api: Api, request: Request) -> Response:
    wait = request.query_params.get("wait", "append")
    if wait not in ("append", "outcome"):
        raise InvalidParameter(f"Invalid value {wait!r} for parameter 'wait' supplied: append or outcome.")
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != CONTENT_TYPE:
        raise InvalidParameter(f"Content-Type must be {CONTENT_TYPE}.")
    body = await read_body(request, min(MAX_BATCH_BYTES, api.config.max_body_bytes))
    with kafka_outages():
        info = await api.log.connect()
    checked = await asyncio.to_thread(_decode_and_check, body, info)
    results = await append_all(api, checked)
    positions = [result for result in results if isinstance(result, Position)]
    failed = next((result for result in results if isinstance(result, ApiError)), None)
    known: dict[Position, outcomes.Refused | None] = {}
    if wait == "outcome" and positions:
        asked = [(r, c.event_id) for r, c in zip(results, checked, strict=True) if isinstance(r, Position)]
        try:
            known = await _outcomes(api, asked)
        except Unavailable as error:
            failed = failed or error
    answer: Json = {"results": [_result(result, known) for result in results]}
    if failed is None:
        return json_response(answer)
    response = json_response(answer | {"error_code": failed.code.wire, "message": failed.message}, failed.status)
    response.headers.update(failed.headers())
    return response


def _decode_and_check(body: bytes, info: LogInfo) -> list[Checked]:
    try:
        records = decode_batch(body)
    except BadRecord as error:
        raise InvalidParameter(f"{error.reason.value}: {error}") from None
    return check(records, info.partitions, info.level)


async def _outcomes(api: Api, asked: Sequence[tuple[Position, str]]) -> dict[Position, outcomes.Refused | None]:
    want: dict[Partition, int] = {}
    for position, _ in asked:
        want[position.where] = max(want.get(position.where, 0), position.offset + 1)

    async def query(connection: Connection) -> list[outcomes.Refused | None]:
        return await outcomes.refusals(connection, asked)

    found = (await api.reader.at(want, query)).value
    return {position: refused for (position, _), refused in zip(asked, found, strict=True)}


def _result(result: Position | ApiError, known: dict[Position, outcomes.Refused | None]) -> Json:
    if isinstance(result, ApiError):
        return {"outcome": "unacknowledged", "code": result.code.wire, "message": result.message}
    answer: Json = {"position": str(result)}
    if result not in known:
        return answer | {"outcome": "appended"}
    refused = known[result]
    if refused is None:
        return answer | {"outcome": "accepted"}
    outcome = "set_aside" if refused.code == "set_aside" else "rejected"
    return answer | {
        "outcome": outcome,
        "code": refused.code,
        "message": refused.message,
        "details": refused.details,
    }


async def _positions(api: Api, _: Request) -> Response:
    ends, checkpoints = await asyncio.gather(api.ends.now(), api.database.checkpoints())
    info = api.log.info
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


Listing = Callable[[Connection, int, int], Awaitable[Sequence[Json]]]


def _listing(name: str, query: Listing) -> Callable[[Api, Request], Awaitable[Response]]:
    async def handler(api: Api, request: Request) -> Response:
        limit = number(request, "limit", 100, _MOST_LISTED)
        offset = number(request, "offset", 0, 2**31)
        shown = await api.reader.read(
            consistency(request, Consistency.EVENTUAL),
            of_topics(*FOLDED),
            lambda connection: query(connection, limit + 1, offset),
        )
        rows = shown.value
        more = {"next_offset": offset + limit} if len(rows) > limit else {}
        return json_response({name: list(rows[:limit]), "positions": shown.said()} | more)

    return handler


def number(request: Request, name: str, default: int, most: int) -> int:
    """A whole number in the query string; InvalidParameter if it is none, or too large."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal()) or len(text) > 12 or int(text) > most:
        raise InvalidParameter(
            f"Invalid value {text[:40]!r} for parameter '{name}' supplied: a whole number up to {most}."
        )
    return int(text)


def _list_shape(name: str, **fields: Schema) -> Schema:
    entry = having({"position": POSITION, "message": TEXT, "broker_ms": MS, **fields})
    return having({name: listed(entry), "positions": POSITIONS}, {"next_offset": INT64})


_PAGE = (
    Field("limit", Kind.INT32, default=100, least=0, most=_MOST_LISTED),
    Field("offset", Kind.INT32, default=0, least=0),
    consistency_field(Consistency.EVENTUAL),
)
_LOG = having(
    {
        "log_id": TEXT,
        "partitions": listed(having({"partition": TEXT, "end": INT64, "checkpoint": INT64, "lag": INT64})),
    }
)
OPERATIONS = (
    RawOperation(
        "POST",
        f"{PREFIX}/events",
        _events,
        "Append a batch of records of a native client, as `producers` encodes them. A bad record refuses the whole batch.",
        {200: (JSON, ref("Outcomes")), 503: (JSON, ref("Outcomes"))},
        (Field("wait", Kind.CHOICE, default="append", choices=("append", "outcome")),),
        takes=CONTENT_TYPE,
        errors=(400, 413, 503),
    ),
    RawOperation(
        "GET",
        f"{PREFIX}/positions",
        _positions,
        "How far each partition of the log goes, and how far it is folded.",
        {200: (JSON, _LOG)},
        errors=(503,),
    ),
    RawOperation(
        "GET",
        f"{PREFIX}/set-aside",
        _listing("set_aside", outcomes.recent_set_aside),
        "Records that no fold can read, latest first. An eventual read unless asked otherwise: it answers while Kafka is away.",
        {200: (JSON, _list_shape("set_aside", reason=TEXT, value_size=NULLABLE_INT, key=NULLABLE_TEXT))},
        _PAGE,
        errors=(400, 503),
        from_past=True,
    ),
    RawOperation(
        "GET",
        f"{PREFIX}/rejections",
        _listing("rejections", outcomes.recent_rejections),
        "Events that a fold refused, latest first. An eventual read unless asked otherwise: it answers while Kafka is away.",
        {
            200: (
                JSON,
                _list_shape("rejections", event_id=TEXT, entity=TEXT, code=TEXT, details={"type": "object"}),
            )
        },
        _PAGE,
        errors=(400, 503),
        from_past=True,
    ),
)
