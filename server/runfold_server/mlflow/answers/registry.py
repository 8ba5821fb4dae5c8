"""Registered models and their versions as MLflow's JSON."""

from runfold_projections.registry.queries import RegisteredModel
from runfold_projections.registry.version_queries import ModelVersion

from .values import Json, encode_pairs, without_empty


def encode_registered_model(row: RegisteredModel) -> Json:
    """Return MLflow's `RegisteredModel`."""
    return without_empty(
        {
            "name": row.name,
            "creation_timestamp": row.created_ms,
            "last_updated_timestamp": row.updated_ms or None,
            "description": row.description or None,
            "latest_versions": [encode_model_version(version) for version in row.latest],
            "tags": encode_pairs(row.tags),
            "aliases": [{"alias": alias, "version": str(version)} for alias, version in row.aliases.items()],
        }
    )


def encode_model_version(row: ModelVersion) -> Json:
    """Return MLflow's `ModelVersion`, the same alone, in a list, in a model, and in a page of a search."""
    return without_empty(
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
            "tags": encode_pairs(row.tags),
            "aliases": row.aliases,
        }
    )
