"""Protobuf's JSON is the judge of single values: each is taken by both, and means the same, or by neither.

Deliberate divergences, out of the generator's reach or in a test of their own:

* NUL characters and lone surrogates, numbers of more than 400 digits or with underscores are refused.
* An enum's value that protobuf does not know is refused; MLflow drops it in silence. Of the forms that Python takes
for a whole number, enums come as a number or its digits only. * An enum's value that stands for "unspecified" is
refused: it asks for nothing. * "nan" is NaN; protobuf refuses it, after which MLflow logs 0.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.json_format import ParseError
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.protos import databricks_pb2, service_pb2
from mlflow.utils.proto_json_utils import parse_dict

from runfold_server.app.routes import OPERATIONS
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.fields import Field, Kind, parse_fields

REFUSED = "refused"


def messages() -> dict[tuple[str, str], Any]:
    """The request message of each call, by method and path."""
    found = {}
    for rpc in service_pb2.DESCRIPTOR.services_by_name["MlflowService"].methods:
        for endpoint in rpc.GetOptions().Extensions[databricks_pb2.rpc].endpoints:
            path = endpoint.path.lstrip("/").removeprefix("mlflow/")
            found[endpoint.method, path] = getattr(service_pb2, rpc.input_type.name, None)
    return found


MESSAGES = messages()
FIELDS = {
    f"{operation.path}.{field.name}": (MESSAGES[operation.method, operation.path], field)
    for operation in OPERATIONS
    if MESSAGES.get((operation.method, operation.path)) is not None
    for field in operation.fields
    if field.kind not in (Kind.OBJECT, Kind.OBJECTS)
    and field.name in MESSAGES[operation.method, operation.path].DESCRIPTOR.fields_by_name
}
words = st.sampled_from(
    [
        "1",
        "-1",
        "4.0",
        "1e3",
        "1E400",
        " 1",
        "1 ",
        "",
        "+1",
        "0x1",
        "NaN",
        "Infinity",
        "-Infinity",
        "inf",
        "FINISHED",
        "finished",
        "ALL",
        "ACTIVE_ONLY",
        "0",
        "3",
        "9",
        "9223372036854775807",
        "9223372036854775808",
        "é",
        "1.5",
        "-0",
    ]
)
values = st.one_of(
    words,
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64),
    st.integers(-10, 10),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e15, 2.0**53, 2.0**63, -0.0, 1e300]),
    st.lists(words | st.integers(0, 3) | st.none(), max_size=3),
    st.dictionaries(words, words, max_size=2),
)


def theirs(message: Any, field: Field, value: Any) -> Any:
    parsed = message()
    try:
        parse_dict({field.name: value}, parsed)
    except ParseError:
        return REFUSED
    found = getattr(parsed, field.name)
    if field.kind is Kind.CHOICE:
        if not parsed.HasField(field.name):
            return REFUSED
        said: str = parsed.DESCRIPTOR.fields_by_name[field.name].enum_type.values_by_number[found].name
        return REFUSED if said.endswith("_UNSPECIFIED") else said
    return tuple(found) if field.kind is Kind.STRINGS else found


def ours(field: Field, value: Any) -> Any:
    # What MLflow's handlers check beyond protobuf is another test's.
    plain = replace(field, required=False, least=None, most=None)
    try:
        return parse_fields([plain], {field.name: value})[field.attribute]
    except InvalidParameter:
        return REFUSED


@settings(max_examples=120, deadline=None)
@pytest.mark.parametrize("name", FIELDS)
@given(value=values)
def test_a_value_means_what_it_means_to_protobuf(name: str, value: Any) -> None:
    message, field = FIELDS[name]
    if value is None:
        parse_dict({field.name: None}, message())
        assert ours(field, None) == (field.default if field.kind is not Kind.STRINGS else ())
        return
    # Protobuf takes what a number leaves of 32 bits: -4294967293 for 3.
    wide = isinstance(value, int) and not -(2**31) <= value < 2**31
    if field.kind is Kind.CHOICE and (wide or isinstance(value, bool | float) or value in (" 1", "1 ", "+1")):
        assert ours(field, value) in (REFUSED, theirs(message, field, value))
        return
    expected, found = theirs(message, field, value), ours(field, value)
    if isinstance(expected, float) and isinstance(found, float) and math.isnan(expected):
        assert math.isnan(found)
    else:
        assert (type(found), found) == (type(expected), expected)


def test_most_fields_are_judged() -> None:
    assert len(FIELDS) > 50
