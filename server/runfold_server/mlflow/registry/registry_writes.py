"""Writes to the registry: appended when the log can have them, answered when the fold has append_and_wait, refused in MLflow's words."""

from collections.abc import Callable
from typing import TypeVar

from runfold_log.writer import Appended
from runfold_schemas.events.registered_models import RegisteredModelFact
from runfold_schemas.positions.vector import Vector
from runfold_server.http.services import Services
from runfold_server.reads.reader import Query
from runfold_server.writes.levels import require_level
from runfold_server.writes.writes import Origin, RefusedWrite

from .registry_errors import as_registry_error

T = TypeVar("T")


def vector_after(done: Appended) -> Vector:
    """The moment right after an event: what it was decided to do, and nothing later."""
    return {done.position.where: done.position.offset + 1}


async def append_and_read(
    services: Services, origin: Origin, event: RegisteredModelFact, query_after: Callable[[Appended], Query[T]]
) -> T:
    """Append, wait for the fold, and answer from the same snapshot; ApiError if it was refused."""
    await require_level(services.log, type(event))
    try:
        return await services.writes.decide(event, origin, query_after)
    except RefusedWrite as refused:
        raise as_registry_error(refused) from None


async def append_and_wait(services: Services, origin: Origin, event: RegisteredModelFact) -> Appended:
    """`decide` for a write that answers nothing but what was asked."""
    await require_level(services.log, type(event))
    try:
        return await services.writes.decided(event, origin)
    except RefusedWrite as refused:
        raise as_registry_error(refused) from None


async def append_and_query(
    services: Services, origin: Origin, event: RegisteredModelFact, query_after: Callable[[Appended], Query[T]]
) -> T:
    """`decide` for an answer that one statement finds."""
    await require_level(services.log, type(event))
    try:
        return await services.writes.decided_then(event, origin, query_after)
    except RefusedWrite as refused:
        raise as_registry_error(refused) from None
