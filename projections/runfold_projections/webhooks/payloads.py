"""Payloads of webhooks. Computes only.

MLflow's kinds and payloads are those of `mlflow.webhooks.types` 3.17.2 and of the handlers that send them. Any other
kind is a pattern of event types.
"""

import fnmatch
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from runfold_projections.registry.fold import PROMPT_TAG
from runfold_schemas.codec.envelope import format_time
from runfold_schemas.codec.record import Record
from runfold_schemas.events.all_events import as_json
from runfold_schemas.events.registered_models import (
    ModelAliasDeleted,
    ModelAliasSet,
    ModelFact,
    ModelsPromoted,
    ModelVersionCreated,
    ModelVersionTagsDeleted,
    ModelVersionTagsSet,
    RegisteredModelCreated,
    RegisteredModelTagsDeleted,
    RegisteredModelTagsSet,
)

PROMPT_TEXT_TAG, PROMPT_TYPE_TAG = "mlflow.prompt.text", "_mlflow_prompt_type"
Json = dict[str, Any]
Payload = tuple[str, Json]
"""A kind, such as model_version.created, and its data."""

MLFLOW_KINDS: Mapping[str, frozenset[str]] = {
    "registered_model": frozenset({"created"}),
    "model_version": frozenset({"created"}),
    "model_version_tag": frozenset({"set", "deleted"}),
    "model_version_alias": frozenset({"created", "deleted"}),
    "prompt": frozenset({"created"}),
    "prompt_version": frozenset({"created"}),
    "prompt_tag": frozenset({"set", "deleted"}),
    "prompt_version_tag": frozenset({"set", "deleted"}),
    "prompt_alias": frozenset({"created", "deleted"}),
    "budget_policy": frozenset({"exceeded"}),
}
"""Actions by entity."""


def is_mlflows(kind: str) -> bool:
    """Return whether a kind is one of MLflow's, rather than a pattern of event types."""
    entity, _, action = kind.partition(".")
    return action in MLFLOW_KINDS.get(entity, ())


def models_named(record: Record) -> list[str]:
    """Return the models that an event names: payloads depend on whether they are prompts."""
    event = record.event
    if isinstance(event, ModelsPromoted):
        return [move.name for move in event.moves]
    return [event.name] if isinstance(event, ModelFact) else []


def payloads_of(record: Record, prompts: frozenset[str], version: int | None) -> list[Payload]:
    """Return the payloads of MLflow's kinds for an accepted event.

    `version` is the number of the version that it created; None if that was deleted since.
    """
    return list(_payloads(record, prompts, version))


def _payloads(record: Record, prompts: frozenset[str], version: int | None) -> Iterator[Payload]:
    event = record.event
    match event:
        case RegisteredModelCreated():
            prompt = event.tags.get(PROMPT_TAG, "").lower() == "true"
            tags = _without(event.tags, PROMPT_TAG, PROMPT_TYPE_TAG) if prompt else event.tags
            data = {"name": event.name, "tags": tags, "description": event.description}
            yield "prompt.created" if prompt else "registered_model.created", data
        case ModelVersionCreated():
            number = None if version is None else str(version)
            if event.name in prompts:
                tags = _without(event.tags, PROMPT_TAG, PROMPT_TYPE_TAG, PROMPT_TEXT_TAG)
                template = event.tags.get(PROMPT_TEXT_TAG)
                own: Json = {"template": template, "tags": tags, "description": event.description}
                yield "prompt_version.created", {"name": event.name, "version": number} | own
            else:
                own = {"source": event.source, "run_id": event.run_id or None, "tags": event.tags}
                own["description"] = event.description
                yield "model_version.created", {"name": event.name, "version": number} | own
        case RegisteredModelTagsSet() if event.name in prompts:
            for key, value in event.tags.items():
                yield "prompt_tag.set", {"name": event.name, "key": key, "value": value}
        case RegisteredModelTagsDeleted() if event.name in prompts:
            for key in event.keys:
                yield "prompt_tag.deleted", {"name": event.name, "key": key}
        case ModelVersionTagsSet():
            for key, value in event.tags.items():
                data = {"name": event.name, "version": str(event.version), "key": key, "value": value}
                yield f"{_of_version(event.name, prompts)}_tag.set", data
        case ModelVersionTagsDeleted():
            for key in event.keys:
                data = {"name": event.name, "version": str(event.version), "key": key}
                yield f"{_of_version(event.name, prompts)}_tag.deleted", data
        case ModelAliasSet():
            yield _alias(event.name, event.alias, event.version, prompts)
        case ModelAliasDeleted():
            yield _alias(event.name, event.alias, None, prompts)
        case ModelsPromoted():
            for move in event.moves:
                if move.alias is not None:
                    yield _alias(move.name, move.alias, move.version, prompts)


def _of_version(name: str, prompts: frozenset[str]) -> str:
    return "prompt_version" if name in prompts else "model_version"


def _alias(name: str, alias: str, version: int | None, prompts: frozenset[str]) -> Payload:
    kind = "prompt_alias" if name in prompts else "model_version_alias"
    if version is None:
        return f"{kind}.deleted", {"name": name, "alias": alias}
    return f"{kind}.created", {"name": name, "alias": alias, "version": str(version)}


def _without(tags: Mapping[str, str], *keys: str) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key not in keys}


def mlflow_body(kind: str, data: Json, time_ms: int) -> str:
    """Return the body of a delivery of one of MLflow's kinds. `time_ms` is the time of the event."""
    entity, _, action = kind.partition(".")
    moment = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()
    return json.dumps({"entity": entity, "action": action, "timestamp": moment, "data": data})


def native_body(record: Record) -> str:
    """Return the body of a delivery of a whole event, for kinds that are patterns of types."""
    envelope = record.envelope
    return json.dumps(
        {
            "type": envelope.type,
            "id": envelope.event_id,
            "position": str(record.position),
            "brokertime": format_time(record.timestamp_ms),
            "workspace": envelope.workspace,
            "actor": envelope.actor,
            "data": as_json(record.event),
        }
    )


def matches_pattern(pattern: str, kind: str) -> bool:
    """Return whether a pattern of event types matches this type, by its full name or the last part of it."""
    return fnmatch.fnmatchcase(kind, pattern) or fnmatch.fnmatchcase(kind.rpartition(".")[2], pattern)


_EXAMPLE: Json = {
    "name": "example_{}",
    "version": "1",
    "alias": "example_alias",
    "key": "example_key",
    "value": "example_value",
    "source": "models:/123",
    "run_id": "abcd1234abcd5678",
    "template": "Hello {{name}}!",
    "tags": {"example_key": "example_value"},
    "description": "An example",
}
_FIELDS = {
    "registered_model.created": "name tags description",
    "model_version.created": "name version source run_id tags description",
    "model_version_tag.set": "name version key value",
    "model_version_tag.deleted": "name version key",
    "model_version_alias.created": "name alias version",
    "model_version_alias.deleted": "name alias",
    "prompt.created": "name tags description",
    "prompt_version.created": "name version template tags description",
    "prompt_tag.set": "name key value",
    "prompt_tag.deleted": "name key",
    "prompt_version_tag.set": "name version key value",
    "prompt_version_tag.deleted": "name version key",
    "prompt_alias.created": "name alias version",
    "prompt_alias.deleted": "name alias",
}


def example(kind: str) -> Json:
    """Return example data of a kind, for a trial delivery."""
    what = "prompt" if kind.startswith("prompt") else "model"
    fields = _FIELDS.get(kind, "name").split()
    return {name: _EXAMPLE[name].format(what) if name == "name" else _EXAMPLE[name] for name in fields}
