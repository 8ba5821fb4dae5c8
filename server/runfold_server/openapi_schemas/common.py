"""JSON schemas that several answers share.

Tests check real answers against them, and the OpenAPI document refers to them.

MLflow leaves out empty lists and unset fields, so whatever is not required here may be missing.
"""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

JSON = "application/json"
TEXT: Schema = {"type": "string"}
NULLABLE_TEXT: Schema = {"type": ["string", "null"]}
NULLABLE_INT: Schema = {"type": ["integer", "null"]}
NULLABLE_NUMBER: Schema = {"type": ["number", "null"]}
POSITION: Schema = {"type": "string", "description": "topic:partition:offset"}
POSITIONS: Schema = {
    "type": "object",
    "additionalProperties": {"type": "integer"},
    "description": "End offset of each partition: the answer includes all records before it.",
}
INT64: Schema = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
MS: Schema = {**INT64, "description": "Milliseconds since the epoch."}
NUMBER: Schema = {
    "description": 'A double; "NaN" for not-a-number, the largest doubles for infinities.',
    "anyOf": [{"type": "number"}, {"const": "NaN"}],
}
TOKEN: Schema = {"type": "string", "description": "More items follow: send it as `page_token`."}
STAGE: Schema = {"enum": ["active", "deleted"]}


def having(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, about: str = "") -> Schema:
    """Return the schema of an object with these fields and no others."""
    fields = {**required, **(optional or {})}
    shape: dict[str, Any] = {"type": "object", "properties": fields, "required": sorted(required)}
    return shape | {"additionalProperties": False} | ({"description": about} if about else {})


def listed(item: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


def ref(name: str) -> Schema:
    """Return a reference to a schema of SHAPES."""
    return {"$ref": f"#/components/schemas/{name}"}


def page(name: str, item: str) -> Schema:
    """Return the schema of a page of a search."""
    return having({}, {name: listed(ref(item)), "next_page_token": TOKEN})


NOTHING: Schema = having({}, about="An empty object.")
_PAIRS = listed(ref("KeyValue"))
_POINT = {"key": TEXT, "value": NUMBER, "timestamp": MS, "step": INT64}

SHAPES: Mapping[str, Schema] = {
    "FileInfo": having(
        {"path": TEXT, "is_dir": {"type": "boolean"}},
        {"file_size": {**INT64, "description": "Bytes; a folder has no size."}},
        "A file or folder.",
    ),
    "Error": having(
        {
            "error_code": {"type": "string", "description": "MLflow's error code."},
            "message": {"type": "string", "description": "What is wrong, and mostly what would be right."},
        },
        {"sqlstate": TEXT, "error_class": TEXT},
        "An error, in MLflow's shape.",
    ),
    "KeyValue": having({"key": TEXT, "value": TEXT}, about="A param or a tag."),
    "Experiment": having(
        {
            "experiment_id": {"type": "string", "pattern": "^[0-9]+$"},
            "name": TEXT,
            "artifact_location": TEXT,
            "lifecycle_stage": STAGE,
            "workspace": TEXT,
        },
        {"creation_time": MS, "last_update_time": MS, "tags": _PAIRS},
    ),
    "RunInfo": having(
        {
            "run_id": TEXT,
            "run_uuid": {"type": "string", "description": "The run id again, for old clients."},
            "experiment_id": TEXT,
            "run_name": TEXT,
            "user_id": TEXT,
            "status": {"enum": ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]},
            "start_time": MS,
            "lifecycle_stage": STAGE,
        },
        {"end_time": MS, "artifact_uri": TEXT},
    ),
    "Metric": having(
        _POINT,
        {"model_id": TEXT, "dataset_name": TEXT, "dataset_digest": TEXT},
        "A point. The latest value of a key is the point with the largest step, then time, then value.",
    ),
    "RunMetric": having({**_POINT, "run_id": TEXT}, about="A point of one of several runs."),
    "Dataset": having(
        {"name": TEXT, "digest": TEXT, "source_type": TEXT, "source": TEXT}, {"schema": TEXT, "profile": TEXT}
    ),
    "DatasetInput": having({"dataset": ref("Dataset")}, {"tags": _PAIRS}),
    "DatasetSummary": having({"experiment_id": TEXT, "name": TEXT, "digest": TEXT}, {"context": TEXT}),
    "Run": having(
        {
            "info": ref("RunInfo"),
            "data": having({}, {"metrics": listed(ref("Metric")), "params": _PAIRS, "tags": _PAIRS}),
            "inputs": having(
                {},
                {
                    "dataset_inputs": listed(ref("DatasetInput")),
                    "model_inputs": listed(having({"model_id": TEXT})),
                },
            ),
        },
        {"outputs": having({}, {"model_outputs": listed(having({"model_id": TEXT, "step": INT64}))})},
        "A run with its latest metrics.",
    ),
    "Outcome": having(
        {"outcome": {"enum": ["appended", "accepted", "rejected", "set_aside", "unacknowledged"]}},
        {
            "position": POSITION,
            "code": TEXT,
            "message": TEXT,
            "details": {"type": "object"},
        },
        "The outcome of one record of a batch.",
    ),
    "Outcomes": having({"results": listed(ref("Outcome"))}, {"error_code": TEXT, "message": TEXT}),
    "Part": having({"ok": {"type": "boolean"}}, {"error": TEXT}),
}
"""Schemas by their names in the document."""

ERROR = ref("Error")
