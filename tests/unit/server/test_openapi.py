"""The OpenAPI document: valid, complete, and describing every field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from openapi_spec_validator import validate
from starlette.routing import Mount, Route

from runfold_server.app.routes import OPERATIONS, OPERATIONS_3, RAW, api_document
from runfold_server.app.routing import routes
from runfold_server.http.fields import Field
from runfold_server.http.prefixes import MLFLOW_3_PREFIXES, MLFLOW_PREFIXES
from runfold_server.openapi.field_descriptions import MEANINGS

DOCUMENT = api_document()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_it_is_a_valid_openapi_document() -> None:
    validate(DOCUMENT)


def test_every_route_of_the_application_is_in_it() -> None:
    def never() -> Any:
        raise AssertionError("routes are made before the parts are open")

    served = {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in routes(never)
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    mounted = [route.path for route in routes(never) if isinstance(route, Mount)]
    assert {*MLFLOW_PREFIXES, *MLFLOW_3_PREFIXES} <= set(mounted)
    served |= {(one.method, f"{MLFLOW_PREFIXES[0]}/{re.sub(r':path}', '}', one.path)}") for one in OPERATIONS}
    served |= {(one.method, f"{MLFLOW_3_PREFIXES[0]}/{one.path}") for one in OPERATIONS_3}
    assert {(method, path) for method, path, _ in operations()} == served


def test_operations_are_described_and_have_ids_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    assert [path for _, path, operation in operations() if len(operation["description"]) < 10] == []


def _names(path: str, fields: tuple[Field, ...]) -> Iterator[str]:
    for field in fields:
        yield from (f"{path}.{field.name}", field.name)
        yield from _names(f"{path}.{field.name}", field.fields)


def test_every_meaning_is_used() -> None:
    served: tuple[Any, ...] = (*OPERATIONS, *OPERATIONS_3, *RAW)
    used = {name for one in served for name in _names(one.path, one.fields)}
    assert set(MEANINGS) - used == set()


def test_bounds_enums_and_defaults_are_those_of_the_fields() -> None:
    search = DOCUMENT["paths"]["/api/2.0/mlflow/runs/search"]["post"]["requestBody"]["content"]["application/json"]
    fields = search["schema"]["properties"]
    assert fields["max_results"] | {"description": ""} == {
        "type": "integer",
        "format": "int32",
        "minimum": -(2**31),
        "maximum": 50_000,
        "default": 1000,
        "description": "",
    }
    assert fields["run_view_type"]["enum"] == ["ACTIVE_ONLY", "DELETED_ONLY", "ALL"]
    sample = DOCUMENT["paths"]["/api/2.0/mlflow/metrics/get-history-bulk-interval"]["get"]["parameters"]
    assert {one["name"]: one["schema"].get("maxItems") for one in sample}["run_ids"] == 100
