"""The registry's rows as MLflow's JSON."""

from typing import Any

from runfold_projections.registry.queries import RegisteredModel
from runfold_projections.registry.version_queries import ModelVersion
from runfold_schemas.positions.position import Position
from runfold_schemas.positions.topics import Topic

from .runs import filled, key_values

Json = dict[str, Any]


def registered_model(row: RegisteredModel) -> Json:
    """MLflow's `RegisteredModel`."""
    return filled(
        {
            "name": row.name,
            "creation_timestamp": row.created_ms,
            "last_updated_timestamp": row.updated_ms or None,
            "description": row.description or None,
            "latest_versions": [model_version(version) for version in row.latest],
            "tags": key_values(row.tags),
            "aliases": [{"alias": alias, "version": str(version)} for alias, version in row.aliases.items()],
        }
    )


def model_version(row: ModelVersion) -> Json:
    """MLflow's `ModelVersion`, the same wherever it stands: alone, in a list, in a model, or found by a search."""
    return filled(
        {
            "name": row.name,
            "version": str(row.version),
            "creation_timestamp": row.created_ms,
            "last_updated_timestamp": row.updated_ms,
            "description": row.description,
            "current_stage": row.stage,
            "source": row.source,
            "run_id": row.run_id,
            "status": "READY",
            "run_link": row.run_link,
            "tags": key_values(row.tags),
            "aliases": row.aliases,
        }
    )


def native_head(row: RegisteredModel) -> Json:
    """A registered model without its versions, as the native API answers it."""
    return {
        "id": model_id(row.born),
        "name": row.name,
        "description": row.description or None,
        "created_ms": row.created_ms,
        "updated_ms": row.updated_ms,
        "last_version": row.last_version,
        "tags": row.tags,
        "aliases": row.aliases,
    }


def model_id(born: int) -> str:
    """A model's identity through all renames: the position of the event that created it."""
    return str(Position(Topic.REGISTRY, 0, born))


def native_version(row: ModelVersion) -> Json:
    """A version as the native API answers it. Texts that nobody gave are null."""
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
