"""Requests, refused in MLflow's words. Expected texts are those of MLflow 3.17.2's server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_server.app.routes import OPERATIONS
from runfold_server.core.errors import ApiError, BadBody, InvalidParameter
from runfold_server.http.fields import Field, Kind, parse_fields, query_values
from runfold_server.http.request_body import read_json

RUN_ID = Field("run_id", required=True, alias="run_uuid")
DOCS = " See the API docs for more information about request parameters."


def refusal(field: Field, value: Any) -> str:
    with pytest.raises(InvalidParameter) as caught:
        parse_fields([field], {field.name: value})
    return caught.value.message


@pytest.mark.parametrize("raw", [{}, {"run_id": None}, {"run_id": ""}])
def test_a_missing_parameter(raw: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=r"Missing value for required parameter 'run_id'\." + DOCS):
        parse_fields([RUN_ID], raw)


def test_the_older_name_is_taken() -> None:
    assert parse_fields([RUN_ID], {"run_uuid": "a"}) == {"run_id": "a"}


def test_camel_case_is_taken_but_not_both() -> None:
    assert parse_fields([RUN_ID], {"runId": "a"}) == {"run_id": "a"}
    with pytest.raises(
        InvalidParameter, match=r"Request specifies both 'run_id' and 'runId'; provide only one of them\."
    ):
        parse_fields([RUN_ID], {"run_id": "a", "runId": "a"})


def test_a_wrong_type_is_named() -> None:
    assert refusal(Field("experiment_id"), 1) == (
        "Invalid value 1 for parameter 'experiment_id' supplied:  Hint: Value was of type 'int'." + DOCS
    )
    assert refusal(Field("value", Kind.DOUBLE), "abc") == (
        "Invalid value \"abc\" for parameter 'value' supplied:  Hint: Value was of type 'str'." + DOCS
    )


@pytest.mark.parametrize(("value", "read"), [(4, 4), ("4", 4), ("-4", -4), (4.0, 4), ("4.0", 4), ("1e3", 1000)])
def test_whole_numbers_come_in_many_forms(value: Any, read: int) -> None:
    assert parse_fields([Field("step", Kind.INT64)], {"step": value}) == {"step": read}


@pytest.mark.parametrize("value", [True, 4.5, "4.5", "", " 4", "1_0", 2**63, -(2**63) - 1, [], {}, "9" * 5000, 10**400])
def test_what_is_no_whole_number(value: Any) -> None:
    assert "for parameter 'step' supplied" in refusal(Field("step", Kind.INT64), value)


@pytest.mark.parametrize("value", ["x", [], {}, "", 10**400, "9" * 5000])
def test_what_is_no_number(value: Any) -> None:
    assert "for parameter 'value' supplied" in refusal(Field("value", Kind.DOUBLE), value)


def test_a_bound_is_a_wrong_value() -> None:
    field = Field("max_results", Kind.INT32, most=50_000)
    assert refusal(field, 60_000) == (
        "Invalid value 60000 for parameter 'max_results' supplied:  Hint: Value was of type 'int'." + DOCS
    )


def test_enums_come_as_names_and_numbers() -> None:
    field = Field("status", Kind.CHOICE, choices=("RUNNING", "SCHEDULED", "FINISHED"))
    assert [parse_fields([field], {"status": s})["status"] for s in ("FINISHED", 3, "3")] == ["FINISHED"] * 3
    wrong: list[Any] = ["X", 0, 4, -1, True, []]
    for value in wrong:
        refusal(field, value)


def test_nul_characters_are_refused_everywhere() -> None:
    assert "NUL" in refusal(Field("key"), "a\x00b")
    assert "tags[0].key" in refusal(Field("tags", Kind.OBJECTS, fields=(Field("key"),)), [{"key": "\x00"}])


def test_nested_fields_are_named_by_their_path() -> None:
    metrics = Field("metrics", Kind.OBJECTS, fields=(Field("key", required=True), Field("value", Kind.DOUBLE)))
    assert refusal(metrics, [{"key": "a"}, {}]) == "Missing value for required parameter 'metrics[1].key'." + DOCS
    refusal(metrics, [None])
    refusal(metrics, {})
    assert parse_fields([metrics], {"metrics": None, "unknown": 1}) == {"metrics": ()}


def test_query_strings() -> None:
    fields = [Field("a"), Field("b", Kind.STRINGS)]
    query = [("a", "1"), ("a", "2"), ("b", "x"), ("b", "y")]
    assert parse_fields(fields, query_values(fields, query)) == {"a": "1", "b": ("x", "y")}


@pytest.mark.parametrize(
    "body", [b"{bad", b'{"a":"\xff"}', b"[1]", b"5", b"[" * 100_000, b"NaN", b'{"a":"\\ud800"}', b'{"a":1e999}', b'"x"']
)
def test_bodies_that_are_no_json_object(body: bytes) -> None:
    with pytest.raises(BadBody):
        read_json(body, "application/json")


def test_bodies_that_are_taken() -> None:
    assert read_json(b"", "application/json") == read_json(b"null", "application/json; charset=utf-8") == {}
    assert read_json(json.dumps('{"a": 1}').encode(), "application/json") == {"a": 1}


def test_content_types() -> None:
    with pytest.raises(InvalidParameter, match="Content-Type header is missing"):
        read_json(b"{}", None)
    with pytest.raises(InvalidParameter, match="Content-Type must be one of"):
        read_json(b"{}", "text/plain")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda s: st.lists(s) | st.dictionaries(st.text(), s),
)
names = sorted({field.name for operation in OPERATIONS for field in operation.fields})


@given(st.sampled_from(OPERATIONS), st.dictionaries(st.sampled_from(names), anything))
def test_no_input_is_more_than_a_refusal(operation: Any, raw: dict[str, Any]) -> None:
    try:
        args = parse_fields(operation.fields, raw)
    except ApiError as error:
        status, body = error.status, json.loads(error.body())
        assert (status, body["error_class"]) == (400, "INVALID_PARAMETER_VALUE")
    else:
        assert set(args) == {field.attribute for field in operation.fields}
        assert isinstance(operation.request(**args), operation.request)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        (Field("limit", Kind.INT32, least=1, most=1000), "0", "It is a whole number from 1 to 1000."),
        (Field("limit", Kind.INT32, least=1, most=1000), "many", "It is a whole number from 1 to 1000."),
        (Field("order", Kind.CHOICE, choices=("oldest", "newest")), "old", "It is one of oldest, newest."),
    ],
)
def test_a_value_beyond_what_is_taken_is_refused_with_what_is(field: Field, value: str, says: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse_fields((field,), query_values((field,), [(field.name, value)]))
    assert refused.value.message.endswith(says)


@pytest.mark.parametrize("value", ["true", "False", "", 1, 0, []])
def test_a_truth_is_one_of_jsons_two_as_in_mlflow(value: Any) -> None:
    with pytest.raises(InvalidParameter, match="'archive_existing_versions'"):
        parse_fields(
            (Field("archive_existing_versions", Kind.BOOL, default=False),), {"archive_existing_versions": value}
        )
