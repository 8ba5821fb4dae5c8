"""What is answered, as JSON schemas, each shape declared once. Tests hold real answers against them; the document refers to them.

MLflow leaves out empty lists and unset fields, so what is not required here may be missing.
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
    "description": "Of each partition the next offset: what lies before it is in this answer.",
}
INT64: Schema = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
MS: Schema = {**INT64, "description": "Milliseconds since the epoch."}
NUMBER: Schema = {
    "description": 'A double; "NaN" for not-a-number, the largest doubles for infinities.',
    "anyOf": [{"type": "number"}, {"const": "NaN"}],
}
TOKEN: Schema = {"type": "string", "description": "There is more: give it as `page_token`."}
STAGE: Schema = {"enum": ["active", "deleted"]}


def having(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, about: str = "") -> Schema:
    """An object with these fields and no others."""
    fields = {**required, **(optional or {})}
    shape: dict[str, Any] = {"type": "object", "properties": fields, "required": sorted(required)}
    return shape | {"additionalProperties": False} | ({"description": about} if about else {})


def listed(item: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": item}


def ref(name: str) -> Schema:
    """A shape of SHAPES, by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def page(name: str, item: str) -> Schema:
    """A page of a search."""
    return having({}, {name: listed(ref(item)), "next_page_token": TOKEN})


NOTHING: Schema = having({}, about="An empty object.")
_PAIRS = listed(ref("KeyValue"))
_POINT = {"key": TEXT, "value": NUMBER, "timestamp": MS, "step": INT64}

SHAPES: Mapping[str, Schema] = {
    "FileInfo": having(
        {"path": TEXT, "is_dir": {"type": "boolean"}},
        {"file_size": {**INT64, "description": "Bytes; a folder has none."}},
        "A file or folder.",
    ),
    "Error": having(
        {
            "error_code": {"type": "string", "description": "MLflow's error code."},
            "message": {"type": "string", "description": "What is wrong, and mostly what would be right."},
        },
        {"sqlstate": TEXT, "error_class": TEXT},
        "Every error, in MLflow's shape.",
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
            "run_uuid": {"type": "string", "description": "The run id once more, for old clients."},
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
        "A point. As the latest value of its key: the one with the largest step, then time, then value.",
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
        "What became of one record of a batch.",
    ),
    "Outcomes": having({"results": listed(ref("Outcome"))}, {"error_code": TEXT, "message": TEXT}),
    "Part": having({"ok": {"type": "boolean"}}, {"error": TEXT}),
}
"""Shapes by the names under which the document has them."""

ERROR = ref("Error")
