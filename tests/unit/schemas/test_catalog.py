"""The released schemas are whole, documented, and what the event classes say."""

import json
import shutil
import types
from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from runfold_schemas.codec import catalog as catalog_module
from runfold_schemas.codec.catalog import FEATURE_LEVEL, Catalog, Released, released_catalog
from runfold_schemas.errors import BadCatalog, BadEvent, UndeclaredSchema
from runfold_schemas.events.all_events import FACTS
from runfold_schemas.events.base import Fact
from runfold_schemas.events.frames import Frame
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.positions.topics import Topic

FOLDER = Path(catalog_module.__file__).parents[1] / "avsc"
ALL = list(released_catalog().by_id.values())
EACH = pytest.mark.parametrize("schema", ALL, ids=lambda schema: f"{schema.subject}.v{schema.version}")
EACH_SUBJECT = pytest.mark.parametrize("subject", released_catalog().subjects)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the released folder, to be spoilt."""
    return Path(shutil.copytree(FOLDER, tmp_path / "avsc"))


def edit(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    path = folder / "released.json"
    entries = json.loads(path.read_text())
    change(entries)
    path.write_text(json.dumps(entries))


def test_an_untouched_copy_loads_the_same(copy: Path) -> None:
    assert Catalog.load(copy).by_id == released_catalog().by_id


def test_a_released_file_that_was_changed_is_refused(copy: Path) -> None:
    path = copy / "runfold.runs.TagsSet" / "v1.avsc"
    path.write_text(path.read_text().replace("Tag values by key.", "Tags by key."))
    with pytest.raises(BadCatalog, match=r"runfold\.runs\.TagsSet v1 was changed"):
        Catalog.load(copy)


def test_a_released_file_that_is_gone_is_refused(copy: Path) -> None:
    (copy / "runfold.runs.TagsSet" / "v1.avsc").unlink()
    with pytest.raises(BadCatalog, match=r"runfold\.runs\.TagsSet v1 is released"):
        Catalog.load(copy)


def test_an_id_released_twice_is_refused(copy: Path) -> None:
    edit(copy, lambda entries: entries[4].update(id=entries[3]["id"]))
    with pytest.raises(BadCatalog, match="is released twice"):
        Catalog.load(copy)


@pytest.mark.parametrize("version", [0, 2, 3])
def test_a_gap_in_the_versions_is_refused(version: int) -> None:
    first = ALL[0]
    with pytest.raises(BadCatalog, match=f"version {version} follows 0"):
        Catalog([Released(1, first.subject, version, 1, first.topics, first.text)])


def test_a_version_released_twice_is_refused() -> None:
    first = ALL[0]
    with pytest.raises(BadCatalog, match="version 1 follows 1"):
        Catalog([first, Released(99, first.subject, 1, 1, first.topics, first.text)])


def test_every_file_in_the_folder_is_released() -> None:
    released = {FOLDER / s.subject / f"v{s.version}.avsc" for s in ALL}
    assert set(FOLDER.rglob("*.avsc")) == released


@EACH
def test_the_subject_is_the_full_name_of_the_record(schema: Released) -> None:
    text = json.loads(schema.text)
    assert f"{text['namespace']}.{text['name']}" == schema.subject
    assert schema.parsed["name"] == schema.subject


@EACH
def test_records_and_fields_are_documented(schema: Released) -> None:
    def undocumented(node: Any, path: str) -> list[str]:
        if isinstance(node, list):
            return [problem for branch in node for problem in undocumented(branch, path)]
        if not isinstance(node, dict):
            return []
        if node["type"] != "record":
            return undocumented(node.get("items", node.get("values")), path)
        missing = [] if node.get("doc") else [path or node["name"]]
        for field in node["fields"]:
            where = f"{path}.{field['name']}"
            missing += [] if field.get("doc") else [where]
            missing += undocumented(field["type"], where)
        return missing

    assert undocumented(json.loads(schema.text), "") == []


@EACH
def test_topics_follow_the_namespace_of_the_subject(schema: Released) -> None:
    area = schema.subject.split(".")[1]
    assert schema.topics == (frozenset(Topic) if area == "log" else {Topic(area)})


@EACH_SUBJECT
def test_levels_never_fall_from_version_to_version_nor_pass_the_releases(subject: str) -> None:
    levels = [schema.level for schema in released_catalog().subjects[subject]]
    assert levels == sorted(levels)
    assert 1 <= levels[0] <= levels[-1] <= FEATURE_LEVEL


def test_every_subject_has_its_class_and_the_other_way_round() -> None:
    assert set(released_catalog().subjects) == {*FACTS, MetricsLogged.subject}
    assert len({event_class.__name__ for event_class in FACTS.values()}) == len(FACTS)


AVRO_OF = {str: "string", bool: "boolean", float: "double", type(None): "null"}


def avro_shape(annotation: Any) -> Any:
    """The Avro type that a Python annotation stands for; ints are `integer`, be they int or long."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return avro_shape(arguments[0])
    if origin is Literal:
        return "string"
    if origin in (Union, types.UnionType):
        return sorted((avro_shape(a) for a in arguments), key=str)
    if origin is list:
        return {"items": avro_shape(arguments[0])}
    if origin is dict:
        return {"values": avro_shape(arguments[1])}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return model_shape(annotation)
    return "integer" if annotation is int else AVRO_OF[annotation]


def model_shape(model: type[BaseModel]) -> dict[str, Any]:
    return {
        info.alias or name: (avro_shape(info.annotation), None if info.is_required() else {"default": info.default})
        for name, info in model.model_fields.items()
    }


def schema_shape(node: Any) -> Any:
    if isinstance(node, list):
        return sorted((schema_shape(branch) for branch in node), key=str)
    if node in ("int", "long"):
        return "integer"
    if not isinstance(node, dict):
        return node
    if node["type"] == "record":
        return {
            field["name"]: (
                schema_shape(field["type"]),
                {"default": field["default"]} if "default" in field else None,
            )
            for field in node["fields"]
        }
    return {part: schema_shape(node[part]) for part in ("items", "values") if part in node}


@pytest.mark.parametrize("event_class", FACTS.values(), ids=lambda event_class: event_class.__name__)
def test_an_event_class_has_the_fields_types_and_defaults_of_its_newest_schema(event_class: type[Fact]) -> None:
    newest = json.loads(released_catalog().newest(event_class.subject).text)
    assert model_shape(event_class) == schema_shape(newest)
    assert event_class.__name__ == newest["name"]


def test_metrics_have_the_fields_of_their_schema() -> None:
    text = json.loads(released_catalog().newest(MetricsLogged.subject).text)
    assert [f["name"] for f in text["fields"]] == [f.name for f in dataclass_fields(MetricsLogged)]
    columns = [f["name"].replace("step_deltas", "steps").replace("time_deltas", "times") for f in frame_fields(text)]
    assert columns == [f.name for f in dataclass_fields(Frame)]


def frame_fields(text: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = text["fields"][1]["type"]["items"]["fields"]
    return found


def test_look_ups_of_what_is_not_there_are_refused() -> None:
    with pytest.raises(UndeclaredSchema):
        released_catalog().get(999)
    with pytest.raises(BadEvent, match="feature level 0"):
        released_catalog().to_write("runfold.runs.TagsSet", 0)
    with pytest.raises(BadEvent, match="nobody"):
        released_catalog().to_write("nobody")


def test_a_level_includes_all_schemas_up_to_it() -> None:
    assert released_catalog().up_to(0) == []
    assert released_catalog().up_to(FEATURE_LEVEL) == sorted(ALL, key=lambda schema: schema.schema_id)
