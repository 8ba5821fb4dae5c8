"""What an import appends of a logged model."""

from collections.abc import Mapping
from typing import Any

from runfold_projections.experiments.queries import Experiment
from runfold_schemas.errors import SchemaError
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.events.logged_models import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelFact,
    LoggedModelFinalized,
    LoggedModelParamsLogged,
    LoggedModelTagsSet,
)
from runfold_schemas.positions.topics import Topic
from runfold_stack.errors import BadExport

from .events import OUR_STORE, Fields, Made, Scribe, parts_of


def model_facts(export_id: str, row: Mapping[str, Any], experiment: Experiment, level: int) -> list[Made]:
    """All of a logged model but its metrics, in order; the first creates it.

    BadExport, also if the log's feature level is too low.
    """
    model_id = str(row["model_id"])
    fields, scribe = (
        Fields(f"logged model {model_id}"),
        Scribe(export_id, Topic.REGISTRY, DEFAULT_WORKSPACE, model_id, level=level),
    )
    address = str(row["artifact_uri"])
    if address.startswith(OUR_STORE):
        address = f"{experiment.artifact_location.rstrip('/')}/models/{model_id}/artifacts"
    created, updated = row["created_ms"], row["updated_ms"]
    facts: list[tuple[LoggedModelFact, int]] = []

    def add(kind: type[LoggedModelFact], time_ms: int, **values: Any) -> None:
        facts.append((fields.build(kind, model_id=model_id, **values), time_ms))

    add(
        LoggedModelCreated,
        created,
        experiment_id=experiment.experiment_id,
        name=row["name"],
        artifact_uri=address,
        model_type=row["model_type"],
        source_run_id=row["source_run_id"],
    )
    for part in parts_of(dict(row["params"])):
        add(LoggedModelParamsLogged, created, params=part)
    for part in parts_of(dict(row["tags"])):
        add(LoggedModelTagsSet, created, tags=part)
    # Status and deletion are what moves the time of the last change.
    if row["status"] != "PENDING" or updated != created:
        add(LoggedModelFinalized, updated, status=row["status"])
    if row["lifecycle_stage"] == "deleted":
        add(LoggedModelDeleted, updated)
    try:
        return [scribe.write(event, time_ms) for event, time_ms in facts]
    except (SchemaError, OverflowError) as error:
        raise BadExport(f"logged model {model_id}: {error}") from None
