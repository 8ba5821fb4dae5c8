"""…/events: what happened to an entity, a page at a time."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

from starlette.responses import Response

from runfold_projections.core.entity import Histories, HistorySubject
from runfold_projections.history.journal import JournalEntry
from runfold_projections.history.timeline import EventWithChanges, history_page
from runfold_projections.metrics.history import BranchHistory
from runfold_projections.metrics.logged_extents import logged_extents
from runfold_projections.postgres.connection import Connection
from runfold_projections.runs.history import RunHistory
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.wire import schema_id_of
from runfold_schemas.positions.position import Position
from runfold_schemas.positions.vector import Vector
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.messages import Message, Rule
from runfold_server.http.native_page_tokens import bad_page_token, decode_page_token, encode_page_token
from runfold_server.http.operation import RawCall, RawHandler
from runfold_server.http.responses import json_answer, with_moment
from runfold_server.http.services import Services
from runfold_server.reads import moments

from .entities import find_histories, find_namesakes, moment, name_in, scope_of
from .event_json import Json, OutcomeName, said

MOST_EVENTS = 1_000


class TimelinePage(Message, frozen=True):
    """…/events."""

    limit: Annotated[int, Rule(bits=32, least=1, most=MOST_EVENTS)] = 100
    order: Literal["oldest", "newest"] = "oldest"
    type: tuple[str, ...] = ()
    outcome: OutcomeName | None = None
    field: str | None = None
    page_token: str = ""


def events(subject: HistorySubject) -> RawHandler[TimelinePage]:
    """The handler of a kind of entity."""

    async def handler(services: Services, call: RawCall[TimelinePage]) -> Response:
        request, name = call.request, name_in(subject, call.http)
        asked, vector = await moment(services, call.http)
        fits, token = _fitting(request), _token(request)

        async def read(connection: Connection) -> Json:
            histories = await find_histories(connection, subject, name, vector, asked)
            answer = await _page(connection, histories, vector, request, fits, token)
            if isinstance(histories[0], RunHistory) and not token:
                answer["logged"] = await _logged(connection, name, vector)
            namesakes = None if token else await find_namesakes(connection, subject, name, histories[0], vector)
            if namesakes is not None:
                answer["namesakes"] = namesakes
            return answer

        shown = await services.reads.reader.read_after(scope_of(subject, name)(vector), read)
        return with_moment(await json_answer(shown.value | {"as_of": moments.vector_text(vector)}), asked)

    return handler


def _fitting(request: TimelinePage) -> Callable[[JournalEntry], bool]:
    types, outcome = request.type, request.outcome
    catalog = released_catalog()
    for one in types:
        _check_type(one, catalog.subjects)

    def fits(entry: JournalEntry) -> bool:
        if outcome is not None and (outcome == "rejected") != bool(entry.code):
            return False
        subject = catalog.get(schema_id_of(entry.value)).subject
        return not types or subject in types or subject.rpartition(".")[2] in types

    return fits


def _check_type(kind: str, subjects: Iterable[str]) -> None:
    # Nothing would fit, and an empty timeline would look as if nothing had happened.
    names = {subject.rpartition(".")[2]: subject for subject in subjects}
    if kind not in names and kind not in names.values():
        near = difflib.get_close_matches(kind.rpartition(".")[2], names, n=3, cutoff=0.5)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise InvalidParameter(f"Parameter 'type' names no type of event: {kind[:100]!r}.{meant}")


async def _page(
    connection: Connection,
    histories: Histories,
    vector: Vector,
    request: TimelinePage,
    fits: Callable[[JournalEntry], bool],
    token: Mapping[str, int | None],
) -> Json:
    limit, newest = request.limit, request.order == "newest"
    if token and token.keys() != {history.projection.value for history in histories}:
        raise bad_page_token()
    found: list[tuple[str, EventWithChanges]] = []
    after: dict[str, int | None] = {}
    for history in histories:
        topic, end = history.projection.value, history.end_offset(vector)
        start = token.get(topic, end if newest else 0)
        if start is None:
            after[topic] = None
            continue
        first, end_offset = (0, min(start, end)) if newest else (start, end)
        page = await history_page(
            connection,
            history,
            first=first,
            end_offset=end_offset,
            limit=limit,
            newest=newest,
            matches=fits,
            about=request.field,
        )
        found += [(topic, one) for one in page.events]
        after[topic] = page.next_offset
    # Of one partition the offsets decide; of several, the broker's times.
    found.sort(key=lambda item: (item[1].entry.broker_ms, item[0], item[1].entry.offset), reverse=newest)
    for topic, one in reversed(found[limit:]):
        after[topic] = one.entry.offset + (1 if newest else 0)
    answer: Json = {
        "events": [said(one.event) | {"changes": one.changes, "caused": one.caused} for _, one in found[:limit]]
    }
    if any(offset is not None for offset in after.values()):
        answer["next_page_token"] = encode_page_token(after)
    return answer


Token = dict[str, int | None]


def _token(request: TimelinePage) -> Token:
    return decode_page_token(request.page_token, Token) if request.page_token else {}


async def _logged(connection: Connection, run_id: str, vector: Vector) -> list[Json]:
    where = BranchHistory(run_id).partition(vector)
    rows = await logged_extents(connection, run_id, vector.get(where, 0))
    return [
        {
            **{name: value for name, value in row.items() if not name.endswith("_offset")},
            "first_position": str(Position(*where, row["first_offset"])),
            "last_position": str(Position(*where, row["last_offset"])),
        }
        for row in rows
    ]
