"""events of the native API: ready records in, checked as a worker will, and what became of each out."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.responses import Response

from runfold_log.admin import LogInfo
from runfold_projections.operations import outcomes
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.batch import CONTENT_TYPE, MAX_BATCH_BYTES, Outgoing, decode_batch
from runfold_schemas.codec.catalog import FEATURE_LEVEL, released_catalog
from runfold_schemas.codec.record import Raw, read_record
from runfold_schemas.codec.wire import schema_id_of
from runfold_schemas.errors import BadRecord, SchemaError
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import partition_count, partition_of
from runfold_server.core.errors import ApiError, InvalidParameter, Unavailable
from runfold_server.core.outages import kafka_outages
from runfold_server.freshness.end_offsets import FOLDED
from runfold_server.http.messages import Message
from runfold_server.http.operation import RawCall, RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.request_body import read_body
from runfold_server.http.responses import json_answer, json_response
from runfold_server.http.services import Services
from runfold_server.native.appendable_events import admit
from runfold_server.openapi_schemas.common import JSON, ref
from runfold_server.writes.feature_levels import too_new

_WINDOW_BYTES = 256 * 1024
_WINDOW_RECORDS = 500
_BULK_FROM = 16
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """A record that may be appended, and the event id under which its outcome will be found."""

    record: Outgoing
    event_id: str


def check(records: Sequence[Outgoing], partitions: int, level: int = FEATURE_LEVEL) -> list[Checked]:
    """Check every record as a worker will, and that the log's feature level has its schema; InvalidParameter names the
    index of the first that is bad.
    """
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
    admit(read.event)
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
        super().__init__(too_new(subject, needed, level).removesuffix("."))


async def append_all(services: Services, checked: Sequence[Checked]) -> list[Position | ApiError]:
    """Append in order, a window at a time.

    After a failure nothing more is sent; what was not tried has the failure too.
    """
    bulk = len(checked) >= _BULK_FROM
    done: list[Position | ApiError] = []
    for window in _windows(checked):
        results = await asyncio.gather(*(_append(services, one, bulk) for one in window))
        done += results
        failure = next((result for result in results if isinstance(result, ApiError)), None)
        if failure is not None:
            return done + [failure] * (len(checked) - len(done))
    return done


async def _append(services: Services, one: Checked, bulk: bool) -> Position | ApiError:
    try:
        return await services.writes.append_raw(one.record, bulk=bulk)
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


class AppendEvents(Message, frozen=True):
    """events, by POST."""

    wait: Literal["append", "outcome"] = "append"


async def _events(services: Services, call: RawCall[AppendEvents]) -> Response:
    wait, request = call.request.wait, call.http
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != CONTENT_TYPE:
        raise InvalidParameter(f"Content-Type must be {CONTENT_TYPE}.")
    body = await read_body(request, MAX_BATCH_BYTES)
    with kafka_outages():
        info = await services.log.connect()
    checked = await asyncio.to_thread(_decode_and_check, body, info)
    results = await append_all(services, checked)
    positions = [result for result in results if isinstance(result, Position)]
    failed = next((result for result in results if isinstance(result, ApiError)), None)
    known: dict[Position, outcomes.RejectedEvent | None] = {}
    if wait == "outcome" and positions:
        asked = [(r, c.event_id) for r, c in zip(results, checked, strict=True) if isinstance(r, Position)]
        try:
            known = await _outcomes(services, asked)
        except Unavailable as error:
            failed = failed or error
    answer: Json = {"results": [_result(result, known) for result in results]}
    if failed is None:
        return await json_answer(answer)
    response = json_response(answer | {"error_code": failed.code.wire, "message": failed.message}, failed.status)
    response.headers.update(failed.headers())
    return response


def _decode_and_check(body: bytes, info: LogInfo) -> list[Checked]:
    try:
        records = decode_batch(body)
    except BadRecord as error:
        raise InvalidParameter(f"{error.reason.value}: {error}") from None
    return check(records, info.partitions, info.level)


async def _outcomes(
    services: Services, asked: Sequence[tuple[Position, str]]
) -> dict[Position, outcomes.RejectedEvent | None]:
    want: dict[Partition, int] = {}
    for position, _ in asked:
        want[position.where] = max(want.get(position.where, 0), position.offset + 1)

    async def query(connection: Connection) -> list[outcomes.RejectedEvent | None]:
        return await outcomes.read_rejections(connection, asked)

    found = (await services.reads.reader.read_after(want, query)).value
    return {position: refused for (position, _), refused in zip(asked, found, strict=True)}


def _result(result: Position | ApiError, known: dict[Position, outcomes.RejectedEvent | None]) -> Json:
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


OPERATIONS = (
    RawOperation(
        "POST",
        f"{NATIVE_PREFIX}/events",
        AppendEvents,
        _events,
        "Append a batch of records of a native client, as `producers` encodes them. A bad record refuses the whole "
        "batch.",
        {200: (JSON, ref("Outcomes")), 503: (JSON, ref("Outcomes"))},
        body_type=CONTENT_TYPE,
        errors=(400, 413, 503),
    ),
)
