"""Old events are read as the newest version; new versions are written only after the feature level was raised."""

import io
import json
from typing import Any

import fastavro
import pytest

from runfold_schemas.codec import upcast, wire
from runfold_schemas.codec.catalog import Catalog, Released, released_catalog
from runfold_schemas.errors import BadRecord
from runfold_schemas.events.all_events import FACTS
from runfold_schemas.events.runs import TagsSet

SUBJECT = TagsSet.subject
V1 = released_catalog().newest(SUBJECT)


class TagsSetV2(TagsSet):
    """The class as a later release would have it."""

    note: str | None = None


def version(number: int, *more: dict[str, Any], without: str = "") -> Released:
    text = json.loads(V1.text)
    text["fields"] = [field for field in text["fields"] if field["name"] != without] + list(more)
    return Released(900 + number, SUBJECT, number, number, V1.topics, json.dumps(text))


NOTE = {"name": "note", "type": ["null", "string"], "default": None}
EXTENDED = Catalog([*released_catalog().by_id.values(), version(2, NOTE)])


def written(schema: Released, fields: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema.parsed, fields)
    return b"\x00" + schema.schema_id.to_bytes(4, "big") + out.getvalue()


@pytest.fixture
def with_v2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACTS, SUBJECT, TagsSetV2)


@pytest.mark.usefixtures("with_v2")
def test_records_of_both_versions_are_read_as_the_newest() -> None:
    old = written(V1, {"run_id": "r", "tags": {"a": "1"}})
    new = written(EXTENDED.newest(SUBJECT), {"run_id": "r", "tags": {"a": "1"}, "note": "why"})
    assert wire.decode(old, EXTENDED) == TagsSetV2(run_id="r", tags={"a": "1"})
    assert wire.decode(new, EXTENDED) == TagsSetV2(run_id="r", tags={"a": "1"}, note="why")


def test_a_class_that_does_not_know_the_new_field_yet_reads_both() -> None:
    new = written(EXTENDED.newest(SUBJECT), {"run_id": "r", "tags": {}, "note": "why"})
    assert wire.decode(new, EXTENDED) == TagsSet(run_id="r", tags={})


@pytest.mark.usefixtures("with_v2")
def test_a_writer_at_a_lower_feature_level_keeps_writing_the_old_version() -> None:
    event = TagsSetV2(run_id="r", tags={"a": "1"}, note="why")
    low, high = wire.encode(event, 1, EXTENDED), wire.encode(event, 2, EXTENDED)
    assert [wire.schema_id_of(low), wire.schema_id_of(high)] == [V1.schema_id, 902]
    assert low == wire.encode(TagsSet(run_id="r", tags={"a": "1"}))
    assert wire.decode(low, EXTENDED) == TagsSetV2(run_id="r", tags={"a": "1"})
    assert wire.decode(high, EXTENDED) == event


def add(mark: str) -> Any:
    return lambda fields: {**fields, "tags": {**fields["tags"], mark: str(len(fields["tags"]))}}


@pytest.mark.parametrize(
    ("steps", "number", "tags"),
    [
        ((1, 2, 3), 1, {"1": "0", "2": "1", "3": "2"}),
        ((1, 2, 3), 2, {"2": "0", "3": "1"}),
        ((1, 2, 3), 4, {}),
        ((3,), 1, {"3": "0"}),
        ((1, 3), 1, {"1": "0", "3": "1"}),
        ((), 1, {}),
    ],
)
def test_steps_apply_in_order_from_the_version_that_was_written(
    steps: tuple[int, ...], number: int, tags: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in reversed(steps):
        monkeypatch.setitem(upcast.STEPS, (SUBJECT, step), add(str(step)))
    monkeypatch.setitem(upcast.STEPS, ("runfold.runs.ParamsLogged", 1), add("of another subject"))
    grown = [version(2, NOTE), version(3, NOTE), version(4, NOTE)]
    catalog = Catalog([*released_catalog().by_id.values(), *grown])
    schema = catalog.subjects[SUBJECT][number - 1]
    event = wire.decode(written(schema, {"run_id": "r", "tags": {}}), catalog)
    assert event == TagsSet(run_id="r", tags=tags)


def test_a_step_sees_what_a_later_version_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep_the_note(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "tags": {**fields["tags"], "note": fields["note"]}}

    monkeypatch.setitem(upcast.STEPS, (SUBJECT, 2), keep_the_note)
    catalog = Catalog([*released_catalog().by_id.values(), version(2, NOTE), version(3)])
    value = written(catalog.subjects[SUBJECT][1], {"run_id": "r", "tags": {}, "note": "why"})
    assert wire.decode(value, catalog) == TagsSet(run_id="r", tags={"note": "why"})


def test_an_old_record_that_breaks_a_bound_is_set_aside_all_the_same() -> None:
    with pytest.raises(BadRecord, match="run_id"):
        wire.decode(written(V1, {"run_id": "no run", "tags": {}}), EXTENDED)
