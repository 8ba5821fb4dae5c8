"""Finding the entity whose history a request asks for: any kind that the catalog gives a history subject."""

from typing import Any

from starlette.requests import Request

from runfold_projections.core.entity import Histories, HistorySubject
from runfold_projections.core.entity_history import EntityHistory
from runfold_projections.postgres.connection import Connection
from runfold_schemas.positions.position import Position
from runfold_schemas.positions.vector import Vector
from runfold_server.core.entity_errors import as_of_suffix
from runfold_server.core.errors import NotFound
from runfold_server.http.services import Services
from runfold_server.reads.scopes import Scope, of_run

from .event_json import Json


def scope_of(subject: HistorySubject, name: str) -> Scope:
    """Return the partitions that hold the entity's events."""
    return of_run(name, *subject.topics)


async def find_histories(
    connection: Connection, subject: HistorySubject, name: str, vector: Vector, as_of: Vector | None
) -> Histories:
    """Return the histories of an entity up to a vector. NotFound, worded for the moment `as_of`, if it has none."""
    found = await subject.find(connection, name, vector)
    if found is not None:
        return found
    message = subject.missing.format(name) + as_of_suffix(as_of, subject.topics[0], name)
    raise NotFound(message if as_of is None else message + await subject.missing_hint(connection, name, as_of))


def name_in(subject: HistorySubject, http: Request) -> str:
    """Return the entity's name in a request's path."""
    return str(http.path_params[subject.parameter])


async def find_namesakes(
    connection: Connection, subject: HistorySubject, name: str, history: EntityHistory[Any], vector: Vector
) -> list[Json] | None:
    """Return the other entities that had the name, each with its id and until when; None where names don't move."""
    if subject.namesakes is None:
        return None
    where = history.partition(vector)
    return [
        {"id": str(Position(*where, one.creation_offset)), "as_of": str(Position(*where, one.lost_at))}
        for one in await subject.namesakes(connection, name, history, vector)
    ]


async def moment(services: Services, request: Request) -> tuple[Vector | None, Vector]:
    """The moment asked about, if any, and the vector up to which the answer goes: else all that there is."""
    asked = await services.reads.moments.of_request(request)
    return asked, asked if asked is not None else await services.reads.log_ends.now()
