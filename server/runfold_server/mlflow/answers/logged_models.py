"""Logged models as MLflow's JSON, and its schemas. Empty lists and unset fields are left out."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from runfold_projections.logged_models.queries import LoggedModel, MeasuredMetric
from runfold_schemas.events.logged_models import ModelStatus
from runfold_server.openapi_schemas.common import INT64, MS, NUMBER, TEXT, Schema, having, listed, ref

from .values import Json, encode_number, encode_pairs, without_empty

LoggedModelStatus = Literal["LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"]
STATUSES: Mapping[ModelStatus, LoggedModelStatus] = {
    "PENDING": "LOGGED_MODEL_PENDING",
    "READY": "LOGGED_MODEL_READY",
    "FAILED": "LOGGED_MODEL_UPLOAD_FAILED",
}
"""MLflow's names for the statuses of a model."""


class MeasuredAnswer(msgspec.Struct, gc=False, omit_defaults=True):
    """MLflow's `Metric` of a logged model."""

    key: str
    value: float | str
    timestamp: int
    step: int
    model_id: str
    run_id: str
    dataset_name: str | None = None
    dataset_digest: str | None = None


def _encode_measured(metric: MeasuredMetric) -> MeasuredAnswer:
    return MeasuredAnswer(
        metric.key,
        encode_number(metric.value),
        metric.time_ms,
        metric.step,
        metric.model_id,
        metric.run_id,
        metric.dataset_name,
        metric.dataset_digest,
    )


def encode_logged_model(row: LoggedModel) -> Json:
    """Return MLflow's `LoggedModel`. As there, a field that the client did not set is an empty text."""
    info = {
        "model_id": row.model_id,
        "experiment_id": str(row.experiment_id),
        "name": row.name,
        "creation_timestamp_ms": row.created_ms,
        "last_updated_timestamp_ms": row.updated_ms,
        "artifact_uri": row.artifact_uri,
        "status": STATUSES[row.status],
        "model_type": row.model_type or "",
        "source_run_id": row.source_run_id or "",
        "tags": encode_pairs(row.tags),
    }
    data = {"params": encode_pairs(row.params), "metrics": [_encode_measured(metric) for metric in row.metrics]}
    return {"info": without_empty(info), "data": without_empty(data)}


_PAIRS = listed(ref("KeyValue"))
SHAPES: Mapping[str, Schema] = {
    "LoggedModelInfo": having(
        {
            "model_id": TEXT,
            "experiment_id": TEXT,
            "name": TEXT,
            "creation_timestamp_ms": MS,
            "last_updated_timestamp_ms": MS,
            "artifact_uri": {"type": "string", "description": "Root of its files."},
            "status": {"enum": list(STATUSES.values())},
            "model_type": TEXT,
            "source_run_id": {"type": "string", "description": "Id of the run that made it; empty if it names none."},
        },
        {"tags": _PAIRS},
    ),
    "ModelMetric": having(
        {"key": TEXT, "value": NUMBER, "timestamp": MS, "step": INT64, "model_id": TEXT, "run_id": TEXT},
        {"dataset_name": TEXT, "dataset_digest": TEXT},
        "A metric of a model, of one run and, if named, one dataset: the point with the largest time, then step, "
        "then value.",
    ),
    "LoggedModel": having(
        {
            "info": ref("LoggedModelInfo"),
            "data": having({}, {"params": _PAIRS, "metrics": listed(ref("ModelMetric"))}),
        },
        about="A logged model with its params and metrics.",
    ),
}
"""Schemas by their names in the document."""
