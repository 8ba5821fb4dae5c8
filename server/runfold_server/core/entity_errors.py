"""Errors about runs and experiments that do not exist or are deleted, in MLflow's words (3.17.2)."""

from runfold_projections.history.cutoff import partition_of_run
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import PARTITIONED, Topic
from runfold_schemas.positions.vector import Vector

from .errors import InvalidParameter, NotFound


def no_experiment(experiment_id: int | str, as_of: Vector | None = None) -> NotFound:
    """Return the error for an experiment that does not exist, or did not yet at `as_of`."""
    return NotFound(f"No Experiment with id={experiment_id} exists{as_of_suffix(as_of, Topic.EXPERIMENTS)}")


def no_run(run_id: str, as_of: Vector | None = None) -> NotFound:
    """Return the error for a run that does not exist, or did not yet at `as_of`."""
    return NotFound(f"Run with id={run_id} not found{as_of_suffix(as_of, Topic.RUNS, run_id)}")


def as_of_suffix(as_of: Vector | None, topic: Topic, key: str = "") -> str:
    """Return the end of a message about a past moment: ` as of <partition>:<offset>` of the partition that decides.

    Empty for the present. `key` picks the partition of a partitioned topic.
    """
    if as_of is None:
        return ""
    where = partition_of_run(as_of, topic, key) if topic in PARTITIONED else Partition(topic, 0)
    return f" as of {where}:{as_of.get(where, 0)}"


def run_not_active(run_id: str, stage: str) -> InvalidParameter:
    """Return the error for a write to a run that was deleted, or whose experiment was."""
    return InvalidParameter(f"The run {run_id} must be in the 'active' state. Current state is {stage}.")


def experiment_not_active(experiment_id: int, stage: str) -> InvalidParameter:
    """Return the error for a write to a deleted experiment."""
    return InvalidParameter(f"The experiment {experiment_id} must be in the 'active' state. Current state is {stage}.")
