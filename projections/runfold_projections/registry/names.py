"""Which registered model had a name at a moment of the log: names move from one model to another."""

import asyncio
from collections.abc import Sequence
from typing import Any

from runfold_projections.core.entity import Histories, HistorySubject, Namesake
from runfold_projections.core.entity_history import EntityHistory
from runfold_projections.history.journal_reader import HistoryEvent
from runfold_projections.history.timeline import load_accepted, state_at, walk
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from .history import RegisteredModelHistory

MAX_NAMESAKES = 20


async def models_ever_named(connection: Connection, workspace: str, name: str, end_offset: int) -> list[int]:
    """Return the identities of models that ever got this name below an end offset of `registry`, latest first."""
    rows = await connection.fetch(
        """
        SELECT born FROM model_naming WHERE workspace = $1 AND name = $2 AND log_offset < $3
        GROUP BY born ORDER BY max(log_offset) DESC
        """,
        workspace,
        name,
        end_offset,
    )
    return [row["born"] for row in rows]


async def model_last_named(connection: Connection, workspace: str, name: str, end_offset: int) -> int | None:
    """Return the identity of the model that has this name below an end offset of `registry`, or else had it last."""
    if not storable(workspace) or not storable(name):
        return None
    found = await models_ever_named(connection, workspace, name, end_offset)
    for creation_offset in found:
        if await _name_at(connection, creation_offset, end_offset) == name:
            return creation_offset
    return found[0] if found else None


async def model_named(connection: Connection, workspace: str, name: str, end_offset: int) -> int | None:
    """Return the identity of the model that has this name below an end offset of `registry`; None if none has."""
    creation_offset = await model_last_named(connection, workspace, name, end_offset)
    return (
        creation_offset
        if creation_offset is not None and await _name_at(connection, creation_offset, end_offset) == name
        else None
    )


async def namesakes(
    connection: Connection, workspace: str, name: str, creation_offset: int, end_offset: int
) -> list[Namesake]:
    """Return other models than `creation_offset` that had its name below an end offset of `registry`, the latest first.

    At most MAX_NAMESAKES.
    """
    found: list[Namesake] = []
    everyone = await models_ever_named(connection, workspace, name, end_offset)
    for other in [one for one in everyone if one != creation_offset][:MAX_NAMESAKES]:
        history = RegisteredModelHistory(other)
        events = await load_accepted(connection, history, 0, end_offset)
        lost_at = await asyncio.to_thread(_last_loss, history, events, name)
        if lost_at is not None:
            found.append(Namesake(other, lost_at))
    return found


async def earlier_name(connection: Connection, workspace: str, name: str, end_offset: int) -> str | None:
    """Return the name, below an end offset of `registry`, of the model that was renamed to `name` afterwards."""
    if not storable(workspace) or not storable(name):
        return None
    creation_offset = await connection.fetchval(
        """
        SELECT born FROM model_naming WHERE workspace = $1 AND name = $2 AND log_offset >= $3 AND born < $3
        ORDER BY log_offset LIMIT 1
        """,
        workspace,
        name,
        end_offset,
    )
    return None if creation_offset is None else await _name_at(connection, creation_offset, end_offset)


async def _name_at(connection: Connection, creation_offset: int, end_offset: int) -> str | None:
    model = (await state_at(connection, RegisteredModelHistory(creation_offset), end_offset)).state.by_offset.get(
        creation_offset
    )
    return None if model is None else model.name


def _last_loss(history: RegisteredModelHistory, events: Sequence[HistoryEvent], name: str) -> int | None:
    lost_at = None
    for event, changes in walk(history, history.start(), events):
        if any(change["field"] == "name" and change["from"] == name for change in changes):
            lost_at = event.entry.offset
    return lost_at


async def _find(connection: Connection, name: str, vector: Vector) -> Histories | None:
    creation_offset = await model_last_named(connection, DEFAULT_WORKSPACE, name, vector.get(_REGISTRY, 0))
    return None if creation_offset is None else (RegisteredModelHistory(creation_offset),)


async def _holder(connection: Connection, name: str, vector: Vector) -> RegisteredModelHistory | None:
    creation_offset = await model_named(connection, DEFAULT_WORKSPACE, name, vector.get(_REGISTRY, 0))
    return None if creation_offset is None else RegisteredModelHistory(creation_offset)


async def _namesakes(connection: Connection, name: str, history: EntityHistory[Any], vector: Vector) -> list[Namesake]:
    assert isinstance(history, RegisteredModelHistory), history
    return await namesakes(connection, DEFAULT_WORKSPACE, name, history.creation_offset, vector.get(_REGISTRY, 0))


async def _hint(connection: Connection, name: str, vector: Vector) -> str:
    # A caller who asks about a moment knows a model by the name that it has now.
    before = await earlier_name(connection, DEFAULT_WORKSPACE, name, vector.get(_REGISTRY, 0))
    return "" if before is None else f": the model that got this name later was {before!r} then"


_REGISTRY = Partition(Topic.REGISTRY, 0)

SUBJECT = HistorySubject(
    collection="models",
    parameter="name",
    about="Name of the registered model.",
    topics=(Topic.REGISTRY,),
    find=_find,
    missing="Registered Model with name={} not found",
    missing_hint=_hint,
    holder=_holder,
    namesakes=_namesakes,
)
