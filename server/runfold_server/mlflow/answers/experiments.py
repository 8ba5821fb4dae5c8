"""Experiments as MLflow's JSON."""

from runfold_projections.experiments.queries import Experiment

from .values import Json, encode_pairs, without_empty


def encode_experiment(row: Experiment) -> Json:
    """Return MLflow's `Experiment`."""
    return without_empty(
        {
            "experiment_id": str(row.experiment_id),
            "name": row.name,
            "artifact_location": row.artifact_location,
            "lifecycle_stage": row.lifecycle_stage,
            # MLflow leaves out times that are 0.
            "last_update_time": row.updated_ms or None,
            "creation_time": row.created_ms or None,
            "workspace": row.workspace,
            "tags": encode_pairs(row.tags),
        }
    )
