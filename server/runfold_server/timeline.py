"""{runs|experiments|models}/…/events, why and diff of the native API: what happened to an entity, and by which event it is as it is."""

import base64
import binascii
import difflib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from runfold_projections.database import Connection
from runfold_projections.journal import Entry
from runfold_projections.queries import timelines
from runfold_projections.queries.journal import Told
from runfold_projections.queries.past_metrics import latest_at
from runfold_projections.queries.stories import (
    ExperimentStory,
    LineStory,
    LoggedModelStory,
    ModelStory,
    RunStory,
    Story,
)
from runfold_projections.queries.timelines import Difference, Happened
from runfold_schemas.catalog import released_catalog
from runfold_schemas.events import DEFAULT_WORKSPACE
from runfold_schemas.position import Partition, Position
from runfold_schemas.topics import Topic
from runfold_schemas.vector import Vector
from runfold_schemas.wire import decode, schema_id_of

from . import as_of
from .api import Api, RawOperation
from .dispatch import json_response, saying
from .errors import InvalidParameter, NotFound
from .mlflow.experiments import experiment_id
from .mlflow.refusals import no_experiment, no_run, then
from .native import PREFIX
from .numbers import number
from .reads import Scope, of_run, of_topics
from .requests import Args, Field, Kind, parse_query
from .timeline_shapes import DIFF, EVENTS, WHY

MOST_EVENTS = 1_000
_OUTCOMES = ("accepted", "rejected")
_ORDERS = ("oldest", "newest")
_MOST_NAMED = 20
Json = dict[str, Any]
Sources = Sequence[Story[Any]]
"""The stories that together tell of an entity; the first one has its fields."""


@dataclass(frozen=True)
class Subject:
    """A kind of entity: how its path names it, which partitions tell of it, and who it is in the journal; None: nobody."""

    path: str
    parameter: str
    scope: Callable[[str], Scope]
    sources: Callable[[Connection, str, Vector], Awaitable[Sources | None]]
    missing: Callable[[Connection, str, Vector | None], Awaitable[NotFound]]


async def _run_sources(conn: Connection, run_id: str, vector: Vector) -> Sources | None:
    return await _told(conn, (RunStory(run_id), LineStory(run_id)), vector)


async def _experiment_sources(conn: Connection, text: str, vector: Vector) -> Sources | None:
    return await _told(conn, (ExperimentStory(experiment_id(text)),), vector)


async def _model_sources(conn: Connection, name: str, vector: Vector) -> Sources | None:
    born = await timelines.model_named(conn, DEFAULT_WORKSPACE, name, vector.get(Partition(Topic.REGISTRY, 0), 0))
    return None if born is None else (ModelStory(born),)


async def _logged_model_sources(conn: Connection, model_id: str, vector: Vector) -> Sources | None:
    return await _told(conn, (LoggedModelStory(model_id),), vector)


async def _told(conn: Connection, sources: Sources, vector: Vector) -> Sources | None:
    return sources if await timelines.has_story(conn, sources[0], _end(sources[0], vector)) else None


def _end(story: Story[Any], vector: Vector) -> int:
    return vector.get(story.where(vector), 0)


async def _no_run(conn: Connection, run_id: str, vector: Vector | None) -> NotFound:
    return no_run(run_id, vector)


async def _no_experiment(conn: Connection, text: str, vector: Vector | None) -> NotFound:
    return no_experiment(text, vector)


async def _no_model(conn: Connection, name: str, vector: Vector | None) -> NotFound:
    message = f"Registered Model with name={name} not found{then(vector, Topic.REGISTRY)}"
    if vector is None:
        return NotFound(message)
    # Whoever asks of the past knows a model by the name that it has now.
    before = await timelines.named_before(conn, DEFAULT_WORKSPACE, name, vector.get(Partition(Topic.REGISTRY, 0), 0))
    return NotFound(message if before is None else f"{message}: the model that got this name later was {before!r} then")


async def _no_logged_model(conn: Connection, model_id: str, vector: Vector | None) -> NotFound:
    return NotFound(f"Logged model with ID '{model_id}' not found{then(vector, Topic.REGISTRY)}")


SUBJECTS = (
    Subject("runs/{run_id}", "run_id", lambda run_id: of_run(run_id, Topic.RUNS, Topic.METRICS), _run_sources, _no_run),
    Subject(
        "experiments/{experiment_id}",
        "experiment_id",
        lambda _: of_topics(Topic.EXPERIMENTS),
        _experiment_sources,
        _no_experiment,
    ),
    Subject(
        "logged-models/{model_id}",
        "model_id",
        lambda _: of_topics(Topic.REGISTRY),
        _logged_model_sources,
        _no_logged_model,
    ),
    Subject("models/{name}", "name", lambda _: of_topics(Topic.REGISTRY), _model_sources, _no_model),
)


async def _moment(api: Api, request: Request) -> tuple[Vector | None, Vector]:
    """The moment asked about, if any, and the vector up to which the answer goes: else all that there is."""
    asked = await api.moments.of(request)
    return asked, asked if asked is not None else await api.ends.now()


# events


def _events(subject: Subject) -> Callable[[Api, Request], Awaitable[Response]]:
    async def handler(api: Api, request: Request) -> Response:
        args = parse_query(_PAGE, request.query_params.multi_items())
        name = str(request.path_params[subject.parameter])
        asked, vector = await _moment(api, request)
        fits, token = _fitting(args), _read_token(args["page_token"])

        async def read(connection: Connection) -> Json:
            sources = await subject.sources(connection, name, vector)
            if sources is None:
                raise await subject.missing(connection, name, asked)
            answer = await _page(connection, sources, vector, args, fits, token)
            if isinstance(sources[0], RunStory) and not token:
                answer["logged"] = await _logged(connection, name, vector)
            return answer

        shown = await api.reader.at(subject.scope(name)(vector), read)
        return saying(json_response(shown.value | {"as_of": as_of.said(vector)}), asked)

    return handler


def _fitting(args: Args) -> Callable[[Entry], bool]:
    types, outcome = args["type"], args["outcome"]
    catalog = released_catalog()
    for one in types or ():
        _check_type(one, catalog.subjects)

    def fits(entry: Entry) -> bool:
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
    conn: Connection,
    sources: Sources,
    vector: Vector,
    args: Args,
    fits: Callable[[Entry], bool],
    token: Mapping[str, int | None],
) -> Json:
    limit, newest = args["limit"], args["order"] == "newest"
    found: list[tuple[str, Happened]] = []
    after: dict[str, int | None] = {}
    for story in sources:
        topic, end = story.projection.value, _end(story, vector)
        start = token.get(topic, end if newest else 0)
        if start is None:
            after[topic] = None
            continue
        first, below = (0, min(start, end)) if newest else (start, end)
        page = await timelines.timeline(conn, story, first=first, below=below, limit=limit, newest=newest, fits=fits)
        found += [(topic, one) for one in page.events]
        after[topic] = page.next_offset
    # Of one partition the offsets decide; of several, the broker's times.
    found.sort(key=lambda item: (item[1].entry.broker_ms, item[0], item[1].entry.offset), reverse=newest)
    for topic, one in reversed(found[limit:]):
        after[topic] = one.entry.offset + (1 if newest else 0)
    answer: Json = {"events": [said(one.told, one.changes, one.caused) for _, one in found[:limit]]}
    if any(offset is not None for offset in after.values()):
        answer["next_page_token"] = _make_token(after)
    return answer


def _make_token(after: Mapping[str, int | None]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(after)).decode()


def _read_token(token: str) -> dict[str, int | None]:
    try:
        return (
            msgspec.json.decode(base64.b64decode(token, b"-_", validate=True), type=dict[str, int | None])
            if token
            else {}
        )
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise InvalidParameter("Parameter 'page_token' is the `next_page_token` of an answer before.") from None


async def _logged(conn: Connection, run_id: str, vector: Vector) -> list[Json]:
    where = LineStory(run_id).where(vector)
    rows = await timelines.logged(conn, run_id, vector.get(where, 0))
    return [
        {
            **{name: value for name, value in row.items() if not name.endswith("_offset")},
            "first_position": str(Position(*where, row["first_offset"])),
            "last_position": str(Position(*where, row["last_offset"])),
        }
        for row in rows
    ]


def said(told: Told, changes: Sequence[Json], caused: Sequence[Json]) -> Json:
    """An event of a timeline."""
    where, entry = told
    event: Any = decode(entry.value)
    payload = event.model_dump(mode="json", by_alias=True) if isinstance(event, BaseModel) else {}
    refused = {"code": entry.code, "message": entry.message} if entry.code else {}
    return {
        "position": str(Position(*where, entry.offset)),
        "broker_ms": entry.broker_ms,
        "event_ms": entry.time_ms,
        "event_id": entry.event_id,
        "type": event.subject,
        "actor": entry.actor,
        "writer": {
            "id": entry.writer,
            "node": entry.node,
            "rank": entry.rank,
            "attempt": entry.attempt,
            "sequence": entry.sequence,
        },
        "correlation_id": entry.correlation_id or None,
        "causation_id": entry.causation_id or None,
        "payload": payload,
        "outcome": _OUTCOMES[bool(entry.code)],
        **refused,
        "changes": list(changes),
        "caused": list(caused),
    }


# why


def _why(subject: Subject) -> Callable[[Api, Request], Awaitable[Response]]:
    async def handler(api: Api, request: Request) -> Response:
        args = parse_query(_FIELD, request.query_params.multi_items())
        name, wanted = str(request.path_params[subject.parameter]), args["field"]
        asked, vector = await _moment(api, request)

        async def read(connection: Connection) -> Json:
            sources = await subject.sources(connection, name, vector)
            if sources is None:
                raise await subject.missing(connection, name, asked)
            story, end = sources[0], _end(sources[0], vector)
            found = await timelines.why(connection, story, wanted, end)
            if not found:
                raise _unknown_field(wanted, story.fields(await timelines.state_of(connection, story, end)))
            events = [{"from": one.before, "to": one.after, "event": said(one.told, (), ())} for one in found]
            return {"field": wanted, "value": found[0].after, "set_by": events[0], "earlier": events[1 : args["limit"]]}

        shown = await api.reader.at(subject.scope(name)(vector), read)
        return saying(json_response(shown.value | {"as_of": as_of.said(vector)}), asked)

    return handler


def _unknown_field(name: str, fields: Mapping[str, Any]) -> NotFound:
    if name.startswith("metrics."):
        return NotFound(f"Field {name[:100]!r} is a metric's: its points are series, `series:history` tells them all.")
    some = sorted(fields, key=lambda field: (field.split(".")[0] != name.split(".")[0], field))[:_MOST_NAMED]
    more = "" if len(fields) <= _MOST_NAMED else ", …"
    return NotFound(f"Field {name[:100]!r} never had a value. Fields are: {', '.join(some) or 'none'}{more}.")


# diff


def _diff(subject: Subject) -> Callable[[Api, Request], Awaitable[Response]]:
    async def handler(api: Api, request: Request) -> Response:
        args = parse_query(_BETWEEN, request.query_params.multi_items())
        name = str(request.path_params[subject.parameter])
        early = await api.moments.resolve(args["from"], "from")
        late = await (api.moments.resolve(args["to"], "to") if args["to"] else api.ends.now())
        latest = {where: max(end, early.get(where, 0)) for where, end in late.items()}

        async def read(connection: Connection) -> list[Json]:
            sources = await subject.sources(connection, name, latest)
            if sources is None:
                raise await subject.missing(connection, name, latest if args["to"] else None)
            story = sources[0]
            found = await timelines.difference(connection, story, _end(story, early), _end(story, late))
            changes = [_changed(one) for one in found]
            if isinstance(story, RunStory):
                changes += await _metrics(connection, name, early, late)
            return changes

        shown = await api.reader.at(subject.scope(name)(latest), read)
        return json_response({"from": as_of.said(early), "to": as_of.said(late), "changes": shown.value})

    return handler


def _changed(one: Difference) -> Json:
    return {
        "field": one.field,
        "from": one.before,
        "to": one.after,
        "by": one.told.entry.actor if one.told else None,
        "event": said(one.told, (), ()) if one.told else None,
    }


async def _metrics(conn: Connection, run_id: str, early: Vector, late: Vector) -> list[Json]:
    before, after = await _latest(conn, run_id, early), await _latest(conn, run_id, late)
    return [
        {"field": f"metrics.{key}", "from": before.get(key), "to": after.get(key), "by": None, "event": None}
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


async def _latest(conn: Connection, run_id: str, vector: Vector) -> dict[str, Json]:
    found = await latest_at(conn, run_id, vector)
    return {one.key: {"value": number(one.value), "step": one.step, "time": one.time_ms} for one in found}


_PAGE = (
    Field("limit", Kind.INT32, default=100, least=1, most=MOST_EVENTS),
    Field("order", Kind.CHOICE, default="oldest", choices=_ORDERS),
    Field("type", Kind.STRINGS),
    Field("outcome", Kind.CHOICE, choices=_OUTCOMES),
    Field("page_token", default=""),
)
_FIELD = (Field("field", required=True), Field("limit", Kind.INT32, default=100, least=1, most=MOST_EVENTS))
_BETWEEN = (Field("from", required=True), Field("to", default=""))
_ABOUT = {
    "events": "The timeline: every event that belongs to it, accepted or refused, with what it changed and caused. By the broker's time.",
    "why": "The event that set a field (`status`, `params.lr`, `tags.team`, `alias.prod`, `versions.3.stage`, …), and the ones that did before.",
    "diff": "What differs between two moments, field by field, and the event that gave each its later value.",
}


def _operations() -> tuple[RawOperation, ...]:
    made = []
    for subject in SUBJECTS:
        own = Field(subject.parameter, required=True)
        for what, handler, fields, answer, past in (
            ("events", _events(subject), _PAGE, EVENTS, True),
            ("why", _why(subject), _FIELD, WHY, True),
            ("diff", _diff(subject), _BETWEEN, DIFF, False),
        ):
            made.append(
                RawOperation(
                    "GET",
                    f"{PREFIX}/{subject.path}/{what}",
                    handler,
                    f"Of one of {subject.path.split('/')[0]}: {_ABOUT[what][0].lower()}{_ABOUT[what][1:]}",
                    {200: ("application/json", answer)},
                    (own, *fields),
                    past=past,
                    errors=(400, 404, 503),
                )
            )
    return tuple(made)


OPERATIONS = _operations()
