"""Bounds of typed events: what can't be stored or read again can't be said."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runfold_schemas.codec import wire
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.codec.record import Record
from runfold_schemas.errors import BadEvent
from runfold_schemas.events.all_events import FACTS
from runfold_schemas.events.runs import ParamsLogged, RunUpdated, TagsSet
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Position
from runfold_schemas.positions.topics import Topic
from tests.support.histories.schema_strategies import goldens, keys, quick, run_ids, texts


@quick
@given(run_ids, st.dictionaries(keys, texts, max_size=5))
def test_events_of_any_text_round_trip(run_id: str, tags: dict[str, str]) -> None:
    for event in (TagsSet(run_id=run_id, tags=tags), ParamsLogged(run_id=run_id, params=tags)):
        assert wire.decode(wire.encode(event)) == event


@pytest.mark.parametrize("golden", [g for g in goldens() if g["subject"] in FACTS], ids=lambda g: g["subject"])
def test_every_event_round_trips(golden: dict[str, Any]) -> None:
    event = FACTS[golden["subject"]].model_validate(golden["event"])
    assert wire.decode(wire.encode(event)) == event


@pytest.mark.parametrize(
    ("subject", "field", "value"),
    [
        ("runs.TagsSet", "run_id", ""),
        ("runs.TagsSet", "run_id", "a\n"),
        ("runs.TagsSet", "run_id", "a" * 257),
        ("runs.TagsSet", "tags", {"": "v"}),
        ("runs.TagsSet", "tags", {"a" * 251: "v"}),
        ("runs.TagsSet", "tags", {"a\x00": "v"}),
        ("runs.TagsSet", "tags", {"a": "v\x00"}),
        ("runs.TagsSet", "tags", {"a": "\ud800"}),
        ("runs.TagsSet", "tags", {"\udfff": "v"}),
        ("runs.TagsSet", "tags", {"a": 1}),
        ("runs.TagsSet", "unheard_of", 1),
        ("runs.RunUpdated", "status", "DONE"),
        ("runs.RunUpdated", "end_ms", 2**63),
        ("runs.RunCreated", "experiment_id", -1),
        ("runs.RunCreated", "start_ms", -(2**63) - 1),
        ("experiments.ExperimentCreated", "name", ""),
        ("experiments.ExperimentCreated", "name", "a" * 501),
        ("log.Genesis", "partition", 2**31),
        ("log.Genesis", "partition_count", 0),
        ("system.FeatureLevelRaised", "level", 2**31),
        ("system.SchemaDeclared", "schema_id", 0),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_the_name_of_its_field(subject: str, field: str, value: object) -> None:
    full = f"runfold.{subject}"
    (golden,) = [g for g in goldens() if g["subject"] == full]
    with pytest.raises(ValidationError) as caught:
        FACTS[full].model_validate({**golden["event"], field: value})
    assert caught.value.errors()[0]["loc"][0] == field


def test_an_event_too_large_for_a_record_is_refused_by_the_writer() -> None:
    with pytest.raises(BadEvent, match=r"shorten tags\.b, which has \d+ characters, or send the values in several"):
        wire.encode(TagsSet(run_id="r", tags={"a": "short", "b": "x" * wire.MAX_VALUE_BYTES}))


def test_events_do_not_share_their_defaults() -> None:
    created = FACTS["runfold.experiments.ExperimentCreated"]
    one, other = created.model_validate({"name": "a"}), created.model_validate({"name": "b"})
    one.model_dump()["tags"]["x"] = "y"
    assert other.model_dump()["tags"] == {}


def test_the_entity_is_the_run_or_else_the_workspace() -> None:
    envelope = Envelope("id", "type", 0, Writer("w"), 0, workspace="team-a")
    for event, entity in (
        (RunUpdated(run_id="r"), "r"),
        (Genesis(log_id="l", topic="runs", partition=0, partition_count=1), "team-a"),
    ):
        assert Record(Position(Topic.RUNS, 0, 0), 0, envelope, event).entity == entity
