"""The AsyncAPI document: valid by the specification's own schema, complete, and true of real records."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from jsonschema import validate as fits

from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.positions.topics import Topic
from runfold_server.native.log.asyncapi import document

SPECIFICATION = json.loads((Path(__file__).parents[2] / "support/api/asyncapi/3.0.0.json").read_text(encoding="utf-8"))
DOCUMENT = document()
VALIDATOR = Draft7Validator(SPECIFICATION)


def resolve(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_it_is_valid_by_the_specifications_schema() -> None:
    Draft7Validator.check_schema(SPECIFICATION)
    assert [f"{error.json_path}: {error.message[:300]}" for error in VALIDATOR.iter_errors(DOCUMENT)] == []


@pytest.mark.parametrize("broken", ["action", "payload", "address"])
def test_the_validation_would_find_a_fault(broken: str) -> None:
    wrong = copy.deepcopy(DOCUMENT)
    match broken:
        case "action":
            wrong["operations"]["read-runs"]["action"] = "shout"
        case "payload":
            wrong["components"]["messages"]["runfold.runs.RunCreated"]["payload"]["schema"]["type"] = "nonsense"
        case "address":
            wrong["channels"]["runs"]["address"] = 5
    assert not VALIDATOR.is_valid(wrong)


def test_every_topic_is_a_channel_and_every_released_schema_a_message_on_its_topics() -> None:
    assert set(DOCUMENT["channels"]) == {topic.value for topic in Topic}
    for topic in Topic:
        channel = DOCUMENT["channels"][topic.value]
        assert channel["address"] == f"{{namespace}}.{topic.value}"
        described = [resolve(message["$ref"]) for message in channel["messages"].values()]
        carried = {one.schema_id: one.text for one in released_catalog().by_id.values() if topic in one.topics}
        assert {one["x-schema-id"]: one["payload"]["schema"] for one in described} == {
            schema_id: json.loads(text) for schema_id, text in carried.items()
        }


def test_headers_are_those_that_writers_write() -> None:
    headers = resolve("#/components/messageTraits/envelope")["headers"]
    least = Envelope("0197f0c2-a6b0-7d1e-8c3f-5a9b2d4e6f80", "runfold.runs.RunCreated", 1, Writer("w"), 0)
    most = Envelope(
        "0197f0c2-a6b0-7d1e-8c3f-5a9b2d4e6f80",
        "runfold.runs.RunCreated",
        1,
        Writer("w", "node", 3, "attempt"),
        0,
        correlation_id="c",
        causation_id="d",
        key_id="k",
        traceparent="t",
    )
    for envelope in (least, most):
        fits({name: value.decode() for name, value in envelope.headers()}, headers)
    assert {name for name, _ in most.headers()} == set(headers["properties"])
    assert {name for name, _ in least.headers()} == {*headers["required"], "content-type"}
