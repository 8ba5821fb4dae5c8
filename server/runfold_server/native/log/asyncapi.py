"""The log as an AsyncAPI 3 document: topics as channels, events as messages, made from the released schemas."""

import json
from functools import lru_cache
from typing import Any

import msgspec
from starlette.responses import Response

from runfold_schemas.codec.catalog import FEATURE_LEVEL, Released, released_catalog
from runfold_schemas.codec.envelope import MAX_HEADER_BYTES, SPEC_VERSION
from runfold_schemas.positions.topics import PARTITIONED, Topic
from runfold_server.http.messages import NoFields
from runfold_server.http.operation import RawCall, RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.services import Services
from runfold_server.openapi_schemas.common import JSON
from runfold_server.schema_registry.routes import BASE

Json = dict[str, Any]
_KAFKA = "0.5.0"
"""Version of AsyncAPI's Kafka bindings."""
_AVRO = "application/vnd.apache.avro;version=1.9.0"
_TOPICS = {
    Topic.SYSTEM: "Genesis of the installation, declared schemas, feature level.",
    Topic.EXPERIMENTS: "Experiments. One partition: a total order.",
    Topic.REGISTRY: "Registered models and logged models. One partition: a total order.",
    Topic.RUNS: "Runs: created, params, tags, inputs, artifacts, status. In order per run.",
    Topic.METRICS: "Metric frames, attempts, rewinds and forks. In order per run.",
}
_ABOUT = f"""
The log of a Runfold installation: plain Kafka, read by any consumer. A topic holds what writers asked for; whether it
took effect is the fold's decision, which `GET {NATIVE_PREFIX}/events:stream?outcome=true` shows. Values are in
Confluent's wire format; `{BASE}` serves the schema of an id.
"""
_HEADERS: dict[str, tuple[str, bool]] = {
    "ce_specversion": ("Version of CloudEvents.", True),
    "ce_id": ("Id of the event: a UUID. An event that was appended twice has the same.", True),
    "ce_type": ("Full name of the event's Avro record.", True),
    "ce_source": ("`/writers/` and the id of the writer: one process.", True),
    "ce_time": ("RFC 3339, by the writer's clock. The record's timestamp is the broker's.", True),
    "content-type": ("application/avro.", False),
    "ce_workspace": ("Workspace.", True),
    "ce_actor": ("Who asked for it: an opaque id.", True),
    "ce_sequence": (
        "Number of the event among those of its writer in this topic and with this key: the same again is a duplicate.",
        True,
    ),
    "ce_rules": ("Version of the decision rules.", True),
    "ce_rank": ("Rank of the process in its job.", False),
    "ce_node": ("Machine of the writer.", False),
    "ce_attempt": ("Id of the job's attempt.", False),
    "ce_correlationid": ("Id of the request that it belongs to.", False),
    "ce_causationid": ("Id of the event that caused it.", False),
    "ce_keyid": ("Id of an encryption key; unused yet.", False),
    "ce_traceparent": ("W3C trace context.", False),
}


def document(namespace: str = "runfold") -> Json:
    """The whole document; `namespace` is the default of the parameter in the topics' names."""
    subjects = released_catalog().subjects
    messages = {_name(one): _message(one) for versions in subjects.values() for one in versions}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Runfold's log",
            "version": f"feature-level-{FEATURE_LEVEL}",
            "description": _ABOUT.strip(),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/avro",
        "channels": {topic.value: _channel(topic) for topic in Topic},
        "operations": {
            f"read-{topic.value}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{topic.value}"},
                "summary": f"What comes on {topic.value}.",
            }
            for topic in Topic
        },
        "components": {
            "parameters": {
                "namespace": {
                    "description": "Name of the installation: `RUNFOLD_NAMESPACE`.",
                    "default": namespace,
                }
            },
            "messageTraits": {"envelope": _envelope()},
            "messages": dict(sorted(messages.items())),
        },
    }


def _name(one: Released) -> str:
    """The newest version has the subject's name, an older one its number too: both may be in the log."""
    newest = released_catalog().newest(one.subject)
    return one.subject if one is newest else f"{one.subject}.v{one.version}"


def _channel(topic: Topic) -> Json:
    carried = [one for one in released_catalog().by_id.values() if topic in one.topics]
    return {
        "address": f"{{namespace}}.{topic.value}",
        "description": _TOPICS[topic],
        "parameters": {"namespace": {"$ref": "#/components/parameters/namespace"}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in sorted(map(_name, carried))},
        "bindings": {"kafka": {"bindingVersion": _KAFKA} | ({} if topic in PARTITIONED else {"partitions": 1})},
    }


def _message(one: Released) -> Json:
    schema = json.loads(one.text)
    return {
        "name": one.subject,
        "title": schema["name"],
        "summary": schema.get("doc", ""),
        "contentType": "application/avro",
        "traits": [{"$ref": "#/components/messageTraits/envelope"}],
        "payload": {"schemaFormat": _AVRO, "schema": schema},
        "bindings": {"kafka": _binding(one)},
        "x-schema-id": one.schema_id,
        "x-schema-version": one.version,
        "x-feature-level": one.level,
    }


def _binding(one: Released) -> Json:
    binding: Json = {
        "schemaIdLocation": "payload",
        "schemaIdPayloadEncoding": "confluent",
        "schemaLookupStrategy": "RecordNameStrategy",
        "bindingVersion": _KAFKA,
    }
    if one.topics <= PARTITIONED:
        return {"key": {"type": "string", "description": "Id of the run, or what the files belong to."}} | binding
    if Topic.SYSTEM not in one.topics:
        return {"key": {"type": "string", "description": "The workspace."}} | binding
    return binding


def _envelope() -> Json:
    shapes: Json = {
        name: {"type": "string", "description": about, "maxLength": MAX_HEADER_BYTES}
        for name, (about, _) in _HEADERS.items()
    }
    shapes["ce_specversion"]["const"] = SPEC_VERSION.decode()
    return {
        "headers": {
            "type": "object",
            "properties": shapes,
            "required": [name for name, (_, required) in _HEADERS.items() if required],
        }
    }


@lru_cache(maxsize=8)
def _encoded(namespace: str) -> bytes:
    return msgspec.json.encode(document(namespace))


async def _describe(services: Services, _: RawCall[NoFields]) -> Response:
    return Response(_encoded(services.config.namespace), media_type=JSON)


OPERATIONS = (
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/asyncapi.json",
        NoFields,
        _describe,
        "The log as an AsyncAPI 3 document: topics, events, their schemas and headers.",
        {200: (JSON, {"type": "object"})},
        errors=(),
        guarded=False,
    ),
)
