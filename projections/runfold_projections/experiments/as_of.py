"""Experiments as of a moment of the log."""

from runfold_projections.history.timeline import state_at
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from .history import ExperimentHistory
from .queries import Experiment

EXPERIMENTS = Partition(Topic.EXPERIMENTS, 0)


async def experiment_at(connection: Connection, experiment_id: int, vector: Vector) -> Experiment | None:
    """Return the experiment; None if it did not exist."""
    found = await state_at(connection, ExperimentHistory(experiment_id), vector.get(EXPERIMENTS, 0))
    if found is None:
        return None
    return Experiment(
        found.experiment_id,
        found.workspace,
        found.name,
        found.artifact_location,
        found.lifecycle_stage,
        found.created_ms,
        found.updated_ms,
        dict(sorted(found.tags.items())),
    )


async def experiment_named_at(connection: Connection, workspace: str, name: str, vector: Vector) -> Experiment | None:
    """Return the experiment that had this name, deleted or not; None if none had it."""
    if not storable(workspace) or not storable(name):
        return None
    end = vector.get(EXPERIMENTS, 0)
    for row in await connection.fetch(_NAMED, workspace, name, end):
        found = await experiment_at(connection, row["experiment_id"], vector)
        if found is not None and found.name == name:
            return found
    return None


_NAMED = """
SELECT DISTINCT experiment_id FROM experiment_naming WHERE workspace = $1 AND name = $2 AND log_offset < $3
ORDER BY experiment_id DESC
"""
