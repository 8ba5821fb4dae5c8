"""Writes to the registry: they check the feature level, wait for the fold, and raise rejections as MLflow's errors."""

from collections.abc import Callable
from typing import TypeVar

from runfold_log.writer import Appended
from runfold_schemas.events.registered_models import RegisteredModelFact
from runfold_schemas.positions.vector import Vector
from runfold_server.http.services import Services
from runfold_server.reads.reader import Query
from runfold_server.writes.feature_levels import require_level
from runfold_server.writes.writes import RejectedWrite, WriteOrigin

from .registry_errors import as_registry_error

T = TypeVar("T")


def vector_after(done: Appended) -> Vector:
    """Return the vector right after an event, which shows its effect and nothing later."""
    return {done.position.where: done.position.offset + 1}


async def append_and_read(
    services: Services, origin: WriteOrigin, event: RegisteredModelFact, query_after: Callable[[Appended], Query[T]]
) -> T:
    """Append, wait for the fold, and answer from the same snapshot; ApiError if the fold rejected the event."""
    await require_level(services.log, type(event))
    try:
        return await services.writes.append_and_read(event, origin, query_after)
    except RejectedWrite as refused:
        raise as_registry_error(refused) from None


async def append_and_wait(services: Services, origin: WriteOrigin, event: RegisteredModelFact) -> Appended:
    """Append and wait for the fold; ApiError if it rejected the event."""
    await require_level(services.log, type(event))
    try:
        return await services.writes.append_and_wait(event, origin)
    except RejectedWrite as refused:
        raise as_registry_error(refused) from None


async def append_and_query(
    services: Services, origin: WriteOrigin, event: RegisteredModelFact, query_after: Callable[[Appended], Query[T]]
) -> T:
    """Append, wait for the fold, and answer with one statement, without a snapshot; ApiError as above."""
    await require_level(services.log, type(event))
    try:
        return await services.writes.append_wait_query(event, origin, query_after)
    except RejectedWrite as refused:
        raise as_registry_error(refused) from None
