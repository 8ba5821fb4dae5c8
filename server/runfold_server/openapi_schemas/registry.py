"""JSON schemas of the answers about the model registry."""

from collections.abc import Mapping

from .common import INT64, MS, NULLABLE_TEXT, POSITION, TEXT, Schema, having, listed, ref

_TAGS = listed(ref("KeyValue"))
VERSION_NUMBER: Schema = {"type": "string", "pattern": "^[0-9]+$", "description": "The version's number."}

STAGES: Schema = {"enum": ["None", "Staging", "Production", "Archived"]}

SHAPES: Mapping[str, Schema] = {
    "ModelVersion": having(
        {
            "name": TEXT,
            "version": VERSION_NUMBER,
            "creation_timestamp": MS,
            "last_updated_timestamp": MS,
            "current_stage": STAGES,
            "source": TEXT,
            "status": {"const": "READY"},
        },
        {"description": TEXT, "run_id": TEXT, "run_link": TEXT, "tags": _TAGS, "aliases": listed(TEXT)},
        "A version of a registered model.",
    ),
    "RegisteredModel": having(
        {"name": TEXT, "creation_timestamp": MS},
        {
            "last_updated_timestamp": MS,
            "description": TEXT,
            "latest_versions": listed(ref("ModelVersion")),
            "tags": _TAGS,
            "aliases": listed(having({"alias": TEXT, "version": VERSION_NUMBER})),
        },
        "A registered model with its aliases and the latest version of each stage.",
    ),
    "NativeModel": having(
        {
            "id": {
                **POSITION,
                "description": "Its identity through all renames: the position of the event that created it.",
            },
            "name": TEXT,
            "description": NULLABLE_TEXT,
            "created_ms": MS,
            "updated_ms": MS,
            "last_version": {**INT64, "description": "The largest version number so far; 0 for none."},
            "tags": {"type": "object", "additionalProperties": TEXT},
            "aliases": {"type": "object", "additionalProperties": INT64, "description": "Alias -> version."},
        },
        about="A registered model.",
    ),
    "NativeModelVersion": having(
        {
            "version": INT64,
            "source": TEXT,
            "storage_location": {"type": "string", "description": "Address of its files."},
            "run_id": NULLABLE_TEXT,
            "run_link": NULLABLE_TEXT,
            "model_id": NULLABLE_TEXT,
            "description": NULLABLE_TEXT,
            "stage": STAGES,
            "created_ms": MS,
            "updated_ms": MS,
            "tags": {"type": "object", "additionalProperties": TEXT},
            "aliases": listed(TEXT),
        },
        about="A version of a registered model.",
    ),
}
"""Schemas by their names in the document."""
