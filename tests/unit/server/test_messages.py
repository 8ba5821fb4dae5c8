"""A request class declares its fields: their kinds, rules and defaults, and what parsing returns."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest

from runfold_server.core.errors import BadBody, InvalidParameter
from runfold_server.http.fields import Field, Kind
from runfold_server.http.messages import AnyText, Int32, Message, Rule, fields_of, parse_message, parse_query


class Item(Message, frozen=True):
    key: str
    value: float = 0.0


class Everything(Message, frozen=True):
    run_id: Annotated[str, Rule(alias="run_uuid")]
    start: Annotated[str, Rule(name="from")] = ""
    step: int = 0
    rank: Int32 | None = None
    order: Literal["oldest", "newest"] = "oldest"
    names: Annotated[tuple[str, ...], Rule(most=2, unfit="{} names are too many.")] = ()
    items: tuple[Item, ...] = ()
    first: Item | None = None
    raw: dict[str, Any] | None = None
    is_open: bool = False


def test_annotations_are_fields() -> None:
    found = {field.name: field for field in fields_of(Everything)}
    assert {name: field.kind for name, field in found.items()} == {
        "run_id": Kind.STRING,
        "from": Kind.STRING,
        "step": Kind.INT64,
        "rank": Kind.INT32,
        "order": Kind.CHOICE,
        "names": Kind.STRINGS,
        "items": Kind.OBJECTS,
        "first": Kind.OBJECT,
        "raw": Kind.OBJECT,
        "is_open": Kind.BOOL,
    }
    assert [name for name, field in found.items() if field.required] == ["run_id"]
    assert (found["order"].choices, found["order"].default) == (("oldest", "newest"), "oldest")
    assert [field.name for field in found["items"].fields] == ["key", "value"]


def test_a_json_object_becomes_an_instance() -> None:
    given = {
        "run_uuid": "r",
        "from": "now",
        "items": [{"key": "a", "value": "2"}],
        "first": {"key": "b"},
        "raw": {"x": 1},
    }
    assert parse_message(Everything, given) == Everything(
        run_id="r", start="now", items=(Item("a", 2.0),), first=Item("b"), raw={"x": 1}
    )


def test_a_query_string_becomes_an_instance() -> None:
    pairs = [("run_id", "r"), ("names", "a"), ("names", "b"), ("step", "3"), ("step", "4")]
    assert parse_query(Everything, pairs) == Everything(run_id="r", names=("a", "b"), step=3)
    with pytest.raises(InvalidParameter, match=r"3 names are too many\."):
        parse_query(Everything, [*pairs, ("names", "c")])


class Strict(Message, frozen=True):
    rejects_unknown = True
    conditions: tuple[Item, ...] = ()


def test_an_unknown_name_is_an_error_where_a_message_wants_it() -> None:
    with pytest.raises(InvalidParameter, match=r"Unknown parameter 'conditions\[0\]\.kye'; there are 'key', 'value'\."):
        parse_message(Strict, {"conditions": [{"key": "a", "kye": "b"}]})
    assert parse_message(Everything, {"run_id": "r", "unknown": 1}) == Everything("r")


class Lenient(Message, frozen=True):
    path: Annotated[str, Rule(missing="No path.", missing_error=BadBody)]
    name: AnyText = ""
    limit: Annotated[int, Rule(bits=32, least=0, fallback=-1)] = 10


def test_rules_may_replace_an_error_or_a_value() -> None:
    with pytest.raises(BadBody, match=r"^No path\.$"):
        parse_query(Lenient, [("path", "")])
    for text in ("x", "-1", str(2**31)):
        assert parse_query(Lenient, [("path", "p"), ("limit", text)]) == Lenient("p", limit=-1)
    assert parse_query(Lenient, [("path", "p"), ("name", "\x00")]) == Lenient("p", name="\x00")


def test_fields_are_made_once() -> None:
    assert fields_of(Everything) is fields_of(Everything)
    assert all(isinstance(field, Field) for field in fields_of(Everything))


def test_a_wrong_type_is_an_error_before_an_unknown_name_is() -> None:
    for wrong in ({"conditions": {"kye": 1}}, {"conditions": [1]}, {"conditions": [None]}):
        with pytest.raises(InvalidParameter, match=r"Invalid value .* for parameter 'conditions"):
            parse_message(Strict, wrong)
