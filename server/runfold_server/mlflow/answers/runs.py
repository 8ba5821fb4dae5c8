"""Runs and their datasets as MLflow's JSON."""

import msgspec

from runfold_projections.runs.datasets import DatasetUse
from runfold_projections.runs.queries import Dataset, Run

from .metrics import encode_latest_metric
from .values import Json, encode_pairs, without_empty


def encode_run_bytes(row: Run) -> bytes:
    """Return MLflow's `Run` as JSON text."""
    return msgspec.json.encode(encode_run(row))


def encode_run(row: Run) -> Json:
    """Return MLflow's `Run`."""
    made = [{"model_id": model_id, "step": step} for model_id, step in row.outputs]
    return encode_created_run(row) | {"outputs": without_empty({"model_outputs": made})}


def encode_created_run(row: Run) -> Json:
    """Return MLflow's `Run` as runs/create answers it: without outputs."""
    return {
        "info": encode_run_info(row),
        "data": without_empty(
            {
                "metrics": [encode_latest_metric(metric) for metric in row.metrics],
                "params": encode_pairs(row.params),
                "tags": encode_pairs(row.tags),
            }
        ),
        "inputs": without_empty(
            {
                "dataset_inputs": [encode_dataset_input(dataset) for dataset in row.datasets],
                "model_inputs": [{"model_id": model} for model in row.models],
            }
        ),
    }


def encode_run_info(row: Run) -> Json:
    """Return MLflow's `RunInfo`."""
    return without_empty(
        {
            "run_uuid": row.run_id,
            "run_id": row.run_id,
            "experiment_id": str(row.experiment_id),
            "run_name": row.name,
            "user_id": row.user_id,
            "status": row.status,
            "start_time": row.start_ms,
            "end_time": row.end_ms or None,
            "artifact_uri": row.artifact_uri or None,
            "lifecycle_stage": row.lifecycle_stage,
        }
    )


def encode_dataset_input(row: Dataset) -> Json:
    """Return MLflow's `DatasetInput`."""
    return without_empty(
        {
            "tags": encode_pairs(row.tags),
            "dataset": without_empty(
                {
                    "name": row.name,
                    "digest": row.digest,
                    "source_type": row.source_type,
                    "source": row.source,
                    "schema": row.schema or None,
                    "profile": row.profile or None,
                }
            ),
        }
    )


def encode_dataset_summary(row: DatasetUse) -> Json:
    """Return MLflow's `DatasetSummary`."""
    return without_empty(row._asdict() | {"experiment_id": str(row.experiment_id)})
