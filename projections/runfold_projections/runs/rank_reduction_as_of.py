"""The reduction over ranks of a run's histories as of a moment of the log; `history_mark` has the present one."""

from runfold_projections.experiments.as_of import experiment_at
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_schemas.events.rank_reduction import REDUCTION_TAG, Reduction, reduction_of
from runfold_schemas.positions.vector import Vector

from .as_of import run_at


async def reduction_at(connection: Connection, run_id: str, as_of: Vector) -> Reduction:
    """Return the reduction of the run's tag, else its experiment's; ALL for an unknown run.

    Needs a read transaction.
    """
    run = await run_at(connection, run_id, as_of) if storable(run_id) else None
    if run is None:
        return Reduction.ALL
    if REDUCTION_TAG in run.tags:
        return reduction_of(run.tags[REDUCTION_TAG])
    experiment = await experiment_at(connection, run.head.experiment_id, as_of)
    return reduction_of(None if experiment is None else experiment.tags.get(REDUCTION_TAG))
