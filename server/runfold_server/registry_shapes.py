"""What calls of the registry answer, as JSON schemas."""

from collections.abc import Mapping

from .shapes import MS, TEXT, Schema, having, listed, ref

_TAGS = listed(ref("KeyValue"))
VERSION_NUMBER: Schema = {"type": "string", "pattern": "^[0-9]+$", "description": "The version's number."}

SHAPES: Mapping[str, Schema] = {
    "ModelVersion": having(
        {
            "name": TEXT,
            "version": VERSION_NUMBER,
            "creation_timestamp": MS,
            "last_updated_timestamp": MS,
            "current_stage": {"enum": ["None", "Staging", "Production", "Archived"]},
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
}
"""Shapes by the names under which the document has them."""
