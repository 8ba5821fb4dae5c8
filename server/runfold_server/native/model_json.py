"""Registered models and versions as the native API's JSON."""

from typing import Any

from runfold_projections.registry.queries import RegisteredModel
from runfold_projections.registry.version_queries import ModelVersion
from runfold_schemas.positions.position import Position
from runfold_schemas.positions.topics import Topic

Json = dict[str, Any]


def encode_model(row: RegisteredModel) -> Json:
    """Return a registered model without its versions."""
    return {
        "id": model_id(row.creation_offset),
        "name": row.name,
        "description": row.description or None,
        "created_ms": row.created_ms,
        "updated_ms": row.updated_ms,
        "last_version": row.last_version,
        "tags": row.tags,
        "aliases": row.aliases,
    }


def model_id(creation_offset: int) -> str:
    """Return the model's identity through all renames: the position of the event that created it."""
    return str(Position(Topic.REGISTRY, 0, creation_offset))


def encode_version(row: ModelVersion) -> Json:
    """Return a version. Texts that were never given are null."""
    return {
        "version": row.version,
        "source": row.source,
        "storage_location": row.storage_location or row.source,
        "run_id": row.run_id or None,
        "run_link": row.run_link or None,
        "model_id": row.model_id or None,
        "description": row.description or None,
        "stage": row.stage,
        "created_ms": row.created_ms,
        "updated_ms": row.updated_ms,
        "tags": row.tags,
        "aliases": row.aliases,
    }
