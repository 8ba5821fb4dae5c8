"""Runs as of a moment of the log: their own events up to it, folded by the same fold."""

from runfold_projections.experiments import fold as experiments
from runfold_projections.experiments.as_of import experiment_at
from runfold_projections.history.cutoff import run_end_offset
from runfold_projections.history.timeline import state_at
from runfold_projections.postgres.connection import Connection
from runfold_projections.series.summaries_as_of import latest_at
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from . import fold as runs
from .details import Dataset
from .history import RunHistory
from .queries import Run


async def run_at(connection: Connection, run_id: str, vector: Vector) -> runs.RunState | None:
    """Return the run as folded, without metrics and regardless of its experiment; None if it did not exist."""
    return await state_at(connection, RunHistory(run_id), run_end_offset(vector, Topic.RUNS, run_id))


async def run_shown_at(connection: Connection, run_id: str, vector: Vector) -> Run | None:
    """Return the run as queries of that moment did: deleted, too, if its experiment was. Needs a read transaction."""
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
