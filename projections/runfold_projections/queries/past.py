"""Entities as they were at a moment of the log: their own events up to it, folded by the same folds."""

from collections.abc import Iterable

from runfold_schemas.events import RunFact
from runfold_schemas.position import Partition
from runfold_schemas.record import Record
from runfold_schemas.topics import Topic
from runfold_schemas.vector import Vector

from ..database import Connection
from ..folds import experiments, runs
from ..folds.decision import Rejection
from ..generations import Projection
from ..search.tokens import storable
from ..states import read_experiment, read_run
from .belongings import Dataset
from .born import below
from .experiments import Experiment
from .journal import Past, past_of
from .past_metrics import latest_at
from .runs import Run

EXPERIMENTS = Partition(Topic.EXPERIMENTS, 0)


def fold_run(past: Past) -> runs.Run | None:
    """The run that its accepted events make."""
    state = None if past.state is None else read_run(past.state)
    for where, entry in past.events:
        record = entry.record(where)
        if isinstance(record.event, RunFact):
            answer = runs.fold(state, record)
            if not isinstance(answer, Rejection) and (state is not None or answer.head is not None):
                state = runs.evolve(state, answer)
    return state


def fold_experiment(past: Past, experiment_id: int) -> experiments.Experiment | None:
    """The experiment that its accepted events make."""
    state = None if past.state is None else read_experiment(past.state)
    return evolve_experiment(state, (entry.record(where) for where, entry in past.events), experiment_id)


def evolve_experiment(
    state: experiments.Experiment | None, records: Iterable[Record], experiment_id: int
) -> experiments.Experiment | None:
    """An experiment after some more accepted events of its own. Nothing of the other ones is needed, since what they could have
    to do with was decided when these were accepted."""
    alone = experiments.Experiments(next_id=experiment_id)
    if state is not None:
        alone.put(state)
    for record in records:
        answer = experiments.fold(alone, record)
        if not isinstance(answer, Rejection):
            alone.put(answer)
    return alone.by_id.get(experiment_id)


async def run_at(conn: Connection, run_id: str, vector: Vector) -> runs.Run | None:
    """The run as folded, without its metrics and whatever became of its experiment; None if it was not there yet."""
    return fold_run(await past_of(conn, Projection.RUNS, run_id, below(vector, Topic.RUNS, run_id)))


async def experiment_at(conn: Connection, experiment_id: int, vector: Vector) -> Experiment | None:
    """The experiment; None if it was not there yet."""
    past = await past_of(conn, Projection.EXPERIMENTS, str(experiment_id), vector.get(EXPERIMENTS, 0))
    found = fold_experiment(past, experiment_id)
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


async def experiment_named_at(conn: Connection, workspace: str, name: str, vector: Vector) -> Experiment | None:
    """The experiment that had this name, deleted or not."""
    if not storable(workspace) or not storable(name):
        return None
    end = vector.get(EXPERIMENTS, 0)
    for row in await conn.fetch(_NAMED, workspace, name, end):
        found = await experiment_at(conn, row["experiment_id"], vector)
        if found is not None and found.name == name:
            return found
    return None


async def run_shown_at(conn: Connection, run_id: str, vector: Vector) -> Run | None:
    """The run as it was shown: deleted also if its experiment was. Must run in a snapshot."""
    found = await run_at(conn, run_id, vector)
    if found is None:
        return None
    head = found.head
    experiment = await experiment_at(conn, head.experiment_id, vector)
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
        metrics=await latest_at(conn, run_id, vector),
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
