"""Entities as they were at a moment of the log: their own events up to it, folded by the same folds."""

from runfold_projections.experiments import fold as experiments
from runfold_projections.experiments.history import ExperimentHistory
from runfold_projections.experiments.queries import Experiment
from runfold_projections.history.cutoff import run_end_offset
from runfold_projections.history.timeline import state_at
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_projections.series.summaries_as_of import latest_at
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from . import fold as runs
from .details import Dataset
from .history import RunHistory
from .queries import Run

EXPERIMENTS = Partition(Topic.EXPERIMENTS, 0)


async def run_at(connection: Connection, run_id: str, vector: Vector) -> runs.RunState | None:
    """The run as folded, without its metrics and whatever became of its experiment; None if it was not there yet."""
    return await state_at(connection, RunHistory(run_id), run_end_offset(vector, Topic.RUNS, run_id))


async def experiment_at(connection: Connection, experiment_id: int, vector: Vector) -> Experiment | None:
    """The experiment; None if it was not there yet."""
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
    """The experiment that had this name, deleted or not."""
    if not storable(workspace) or not storable(name):
        return None
    end = vector.get(EXPERIMENTS, 0)
    for row in await connection.fetch(_NAMED, workspace, name, end):
        found = await experiment_at(connection, row["experiment_id"], vector)
        if found is not None and found.name == name:
            return found
    return None


async def run_shown_at(connection: Connection, run_id: str, vector: Vector) -> Run | None:
    """The run as it was shown: deleted also if its experiment was. Must run in a snapshot."""
    found = await run_at(connection, run_id, vector)
    if found is None:
        return None
    head = found.head
    experiment = await experiment_at(connection, head.experiment_id, vector)
    deleted = experiment is not None and experiment.lifecycle_stage == experiments.DELETED
    return Run(
        run_id=head.run_id,
        experiment_id=head.experiment_id,
        name=head.name,
        user_id=head.user_id,
        status=head.status,
        start_ms=head.start_ms,
        end_ms=head.end_ms,
        lifecycle_stage=experiments.DELETED if deleted else head.lifecycle_stage,
        artifact_uri=head.artifact_uri,
        params=dict(sorted(found.params.items())),
        tags=dict(sorted(found.tags.items())),
        metrics=await latest_at(connection, run_id, vector),
        datasets=[
            Dataset(d.name, d.digest, d.source_type, d.source, d.definition, d.profile, d.tags) for d in found.datasets
        ],
        models=list(found.models),
        outputs=list(found.outputs),
    )


_NAMED = """
SELECT DISTINCT experiment_id FROM experiment_naming WHERE workspace = $1 AND name = $2 AND log_offset < $3
ORDER BY experiment_id DESC
"""
