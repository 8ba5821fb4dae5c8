"""…/diff: what differs about an entity between two moments."""

from dataclasses import replace
from typing import Annotated, Any

from starlette.responses import Response

from runfold_projections.core.entity import HistorySubject
from runfold_projections.core.entity_history import EntityHistory
from runfold_projections.history.difference import FieldDifference, differences_between, differences_to_successor
from runfold_projections.postgres.connection import Connection
from runfold_projections.runs.history import RunHistory
from runfold_projections.series.summaries_as_of import latest_at
from runfold_schemas.positions.vector import Vector
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import RawCall, RawHandler
from runfold_server.http.responses import json_answer
from runfold_server.http.services import Services
from runfold_server.native.series.json_numbers import number
from runfold_server.reads import moments

from .entities import find_histories, name_in, scope_of
from .event_json import Json, said


class Between(Message, frozen=True):
    """…/diff."""

    start: Annotated[str, Rule(name="from")]
    to: str | None = None


def diff(subject: HistorySubject) -> RawHandler[Between]:
    """The handler of a kind of entity."""

    async def handler(services: Services, call: RawCall[Between]) -> Response:
        name, to, moments_of = name_in(subject, call.http), call.request.to, services.reads.moments
        early = await moments_of.resolve(call.request.start, "from")
        late = await (services.reads.log_ends.now() if to is None else moments_of.resolve(to, "to"))
        latest = {where: max(end, early.get(where, 0)) for where, end in late.items()}

        async def read(connection: Connection) -> list[Json]:
            histories = await find_histories(connection, subject, name, latest, None if to is None else latest)
            then, now = await _both(connection, subject, histories[0], name, early, late)
            found = await _differences(connection, then, then.end_offset(early), now, now.end_offset(late))
            changes = [_changed(one) for one in found]
            if isinstance(then, RunHistory):
                changes += await _metrics(connection, name, early, late)
            return changes

        shown = await services.reads.reader.read_after(scope_of(subject, name)(latest), read)
        return await json_answer(
            {"from": moments.vector_text(early), "to": moments.vector_text(late), "changes": shown.value}
        )

    return handler


async def _both(
    connection: Connection, subject: HistorySubject, last: EntityHistory[Any], name: str, early: Vector, late: Vector
) -> tuple[EntityHistory[Any], EntityHistory[Any]]:
    """Whose the name was at each of the two moments.

    Where nobody had it at one of them, it is the other one's story.
    """
    if subject.holder is None:
        return last, last
    then, now = await subject.holder(connection, name, early), await subject.holder(connection, name, late)
    return then or now or last, now or then or last


async def _differences(
    connection: Connection, then: EntityHistory[Any], first: int, now: EntityHistory[Any], below: int
) -> list[FieldDifference]:
    if then.entity == now.entity:
        return await differences_between(connection, then, first, below)
    if first <= below:
        return await differences_to_successor(connection, then, first, now, below)
    found = await differences_to_successor(connection, now, below, then, first)
    return [replace(one, before=one.after, after=one.before) for one in found]


def _changed(one: FieldDifference) -> Json:
    return {
        "field": one.field,
        "from": one.before,
        "to": one.after,
        "by": one.event.entry.actor if one.event else None,
        "event": said(one.event) if one.event else None,
    }


async def _metrics(connection: Connection, run_id: str, early: Vector, late: Vector) -> list[Json]:
    before, after = await _latest(connection, run_id, early), await _latest(connection, run_id, late)
    return [
        {"field": f"metrics.{key}", "from": before.get(key), "to": after.get(key), "by": None, "event": None}
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


async def _latest(connection: Connection, run_id: str, vector: Vector) -> dict[str, Json]:
    found = await latest_at(connection, run_id, vector)
    return {one.key: {"value": number(one.value), "step": one.step, "time": one.time_ms} for one in found}
