"""Rows as MLflow's JSON. Empty lists and unset fields are left out; whole numbers are numbers, not strings."""

import math
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec
import numpy as np

from runfold_projections.experiments.queries import Experiment
from runfold_projections.runs.datasets import DatasetUse
from runfold_projections.runs.queries import Dataset, LatestMetric, Run
from runfold_projections.series.latest import History

Json = dict[str, Any]
LARGEST = 1.7976931348623157e308
"""What MLflow's database makes of an infinity."""


def number(value: float) -> float | str:
    """A metric's value: NaN as a string, infinities as the largest doubles."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else math.copysign(LARGEST, value)


class KeyValue(msgspec.Struct, gc=False):
    """A tag or a param. A struct, since a page of a search has tens of thousands."""

    key: str
    value: str


def key_values(pairs: Mapping[str, str]) -> list[KeyValue]:
    """Tags or params, by key."""
    return [KeyValue(key, value) for key, value in sorted(pairs.items())]


def filled(fields: Mapping[str, Any]) -> Json:
    """Without what is None or an empty list."""
    return {name: value for name, value in fields.items() if value is not None and value != []}


def experiment(row: Experiment) -> Json:
    """MLflow's `Experiment`."""
    return filled(
        {
            "experiment_id": str(row.experiment_id),
            "name": row.name,
            "artifact_location": row.artifact_location,
            "lifecycle_stage": row.lifecycle_stage,
            # MLflow leaves out times that are 0.
            "last_update_time": row.updated_ms or None,
            "creation_time": row.created_ms or None,
            "workspace": row.workspace,
            "tags": key_values(row.tags),
        }
    )


def run_info(row: Run) -> Json:
    """MLflow's `RunInfo`."""
    return filled(
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


def run(row: Run) -> Json:
    """MLflow's `Run`."""
    made = [{"model_id": model_id, "step": step} for model_id, step in row.outputs]
    return created_run(row) | {"outputs": filled({"model_outputs": made})}


def encode_run(row: Run) -> bytes:
    """Encode MLflow's `Run` as JSON."""
    return msgspec.json.encode(run(row))


def created_run(row: Run) -> Json:
    """MLflow's `Run` as runs/create answers it: without outputs."""
    return {
        "info": run_info(row),
        "data": filled(
            {
                "metrics": [latest_metric(m) for m in row.metrics],
                "params": key_values(row.params),
                "tags": key_values(row.tags),
            }
        ),
        "inputs": filled(
            {
                "dataset_inputs": [dataset_input(d) for d in row.datasets],
                "model_inputs": [{"model_id": model} for model in row.models],
            }
        ),
    }


class LatestAnswer(msgspec.Struct, gc=False, omit_defaults=True):
    """MLflow's `Metric`, as the latest value of its key."""

    key: str
    value: float | str
    timestamp: int
    step: int
    dataset_name: str | None = None
    dataset_digest: str | None = None
    model_id: str | None = None


def latest_metric(row: LatestMetric) -> LatestAnswer:
    """The latest value of a key."""
    key, value, step, time_ms, model_id, dataset_name, dataset_digest = row
    return LatestAnswer(
        key, number(value), time_ms, step, dataset_name or None, dataset_digest or None, model_id or None
    )


def dataset_input(row: Dataset) -> Json:
    """MLflow's `DatasetInput`."""
    return filled(
        {
            "tags": key_values(row.tags),
            "dataset": filled(
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


def dataset_summary(row: DatasetUse) -> Json:
    """MLflow's `DatasetSummary`."""
    return filled(row._asdict() | {"experiment_id": str(row.experiment_id)})


class PointAnswer(msgspec.Struct, gc=False):
    """MLflow's `Metric` as a point of a history. A struct, since a history has hundreds of thousands."""

    key: str
    value: float | str
    timestamp: int
    step: int


def history(key: str, rows: History, start: int, stop: int) -> list[PointAnswer]:
    """MLflow's `Metric`s of a page of one key's points."""
    values = rows.values[start:stop]
    shown = values.tolist() if np.isfinite(values).all() else map(number, values.tolist())
    return list(map(PointAnswer, repeat(key), shown, rows.times[start:stop].tolist(), rows.steps[start:stop].tolist()))


class RunPointAnswer(msgspec.Struct, gc=False):
    """MLflow's `MetricWithRunId`."""

    key: str
    value: float | str
    timestamp: int
    step: int
    run_id: str


def run_points(run_id: str, key: str, rows: History, picked: Any) -> list[RunPointAnswer]:
    """The picked points of one run's history, in the order picked."""
    columns = rows.values[picked].tolist(), rows.times[picked].tolist(), rows.steps[picked].tolist()
    return [
        RunPointAnswer(key, number(value), time_ms, step, run_id) for value, time_ms, step in zip(*columns, strict=True)
    ]


def page(name: str, rows: Sequence[Json | PointAnswer | msgspec.Raw], token: str | None) -> Json:
    """A list answer: left out when empty, with a token when there is more."""
    return filled({name: list(rows), "next_page_token": token})
