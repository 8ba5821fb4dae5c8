"""The OpenAPI 3.1 document, made from the declarations that routing and parsing read."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from starlette.responses import Response

from runfold_server.http.fields import Field, Kind
from runfold_server.http.messages import NoFields, fields_of
from runfold_server.http.operation import Operation, RawCall, RawOperation, TimeTravel
from runfold_server.http.path_matching import PLACEHOLDER
from runfold_server.http.services import Services
from runfold_server.mlflow.answers import logged_models
from runfold_server.mlflow.version import MLFLOW_VERSION
from runfold_server.native import runs as native_runs
from runfold_server.openapi_schemas import registry, timeline
from runfold_server.openapi_schemas.common import ERROR, JSON, SHAPES, Schema
from runfold_server.reads import moments

from .field_descriptions import meaning

Json = dict[str, Any]
_INTEGERS = {Kind.INT32: 2**31, Kind.INT64: 2**63}
_ABOUT = f"""
The REST API of Runfold. The calls of MLflow {MLFLOW_VERSION} are served under `/api/2.0/mlflow` and `/ajax-
api/2.0/mlflow`.

Bodies are JSON objects. Unknown fields are ignored, null means absent, whole numbers may come as strings, and names
may be in camel case. Writes of a run's params and tags answer when the fold has accepted them, metrics when the log
has them. A read sees every write that was acknowledged before it began. A fault of the program is a 500 with an error
in the same shape as all others.
"""
_ERRORS = {
    400: "The request is wrong; the message names what would be right.",
    404: "The request names something that does not exist.",
    409: "No snapshot of the requested moment exists; the message names the command that creates it.",
    413: "The body exceeds the server's limit.",
    429: "The client has reached its limit of open answers; end one, or try later.",
    501: "The log's feature level is too low: run `runfold upgrade`.",
    503: "Kafka, Postgres or the workers are down or behind. A write was not acknowledged and may still take effect; "
    "repeat it.",
}


def document(mlflow: Mapping[str, Iterable[Operation[Any]]], raw_operations: Iterable[RawOperation[Any]]) -> Json:
    """Return the whole document. `mlflow` has MLflow's operations by their prefix."""
    paths: dict[str, Json] = {}
    for prefix, operations in mlflow.items():
        for operation in operations:
            paths.setdefault(f"{prefix}/{_plain(operation.path)}", {})[operation.method.lower()] = _call(operation)
    for raw in raw_operations:
        paths.setdefault(_plain(raw.path), {})[raw.method.lower()] = _raw(raw)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Runfold",
            "version": MLFLOW_VERSION,
            "description": _ABOUT.strip(),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {
                **SHAPES,
                **native_runs.SHAPES,
                **registry.SHAPES,
                **logged_models.SHAPES,
                **timeline.SHAPES,
            },
            "responses": {str(status): _error(status, about) for status, about in _ERRORS.items()},
        },
    }


def _plain(path: str) -> str:
    return PLACEHOLDER.sub(r"{\1}", path)


def _call(operation: Operation[Any]) -> Json:
    # Any body may be bad. A GET without fields has nothing that a client could get wrong.
    errors: tuple[int, ...] = (400, 404, 413, 503)
    if not operation.fields and operation.method == "GET":
        errors = (400, 503) if operation.time_travel is not TimeTravel.NONE else (503,)
    described = _described(
        operation.about,
        operation.path.split("/")[0],
        f"{operation.method.lower()} {operation.path}",
        {200: (JSON, operation.answer)},
        (*errors, *operation.errors, *(_NO_PAST if operation.time_travel is TimeTravel.SNAPSHOT else ())),
    )
    placed = set(PLACEHOLDER.findall(operation.path))
    in_path = [field for field in operation.fields if field.name in placed]
    moment = [_AS_OF] if operation.time_travel is not TimeTravel.NONE else []
    if moment:
        described["responses"]["200"]["headers"] = _AS_OF_SAID
    if operation.method == "GET":
        return described | {"parameters": [*_parameters(operation.path, operation.fields, placed), *moment]}
    if in_path or moment:
        described["parameters"] = [*_parameters(operation.path, in_path, placed), *moment]
    in_body = [field for field in operation.fields if field.name not in placed]
    if not in_body and in_path:
        return described
    needed = any(field.required for field in in_body)
    return described | {
        "requestBody": {"required": needed, "content": {JSON: {"schema": _object(operation.path, in_body)}}}
    }


_AS_OF: Json = {
    "name": moments.PARAMETER,
    "in": "query",
    "required": False,
    "description": "A past moment: an ISO date or time (UTC unless it names a zone), milliseconds since the epoch, a "
    f"position vector, or the name of a snapshot. The header `{moments.HEADER}` is equivalent.",
    "schema": {"type": "string"},
}
_AS_OF_SAID: Json = {
    moments.HEADER: {
        "description": "For a past moment: the position vector that it was resolved to.",
        "schema": {"type": "string"},
    }
}
_NO_PAST = (409,)
_BYTES: Json = {"type": "string", "contentEncoding": "binary"}


def _raw(raw: RawOperation[Any]) -> Json:
    tag = next(part for part in raw.path.strip("/").removeprefix("api/").split("/"))
    errors = (*raw.errors, *(_NO_PAST if raw.time_travel is TimeTravel.SNAPSHOT else ()))
    described = _described(raw.about, tag, f"{raw.method.lower()} {raw.path}", raw.answers, errors)
    described["parameters"] = list(_parameters(raw.path, raw.fields, set(PLACEHOLDER.findall(raw.path))))
    if raw.time_travel is not TimeTravel.NONE:
        described["parameters"].append(_AS_OF)
    if raw.also:
        described["responses"]["200"]["content"][raw.also] = {"schema": _BYTES}
    if raw.body_type:
        described["requestBody"] = {"required": True, "content": {raw.body_type: {"schema": _body(raw)}}}
    return described


def _body(raw: RawOperation[Any]) -> Schema:
    if isinstance(raw.body, type):
        return _object(f"{raw.path}.body", fields_of(raw.body))
    return raw.body or _BYTES


def _described(
    about: str, tag: str, name: str, answers: Mapping[int, tuple[str, Schema]], errors: Iterable[int]
) -> Json:
    errors_by_status = {str(status): {"$ref": f"#/components/responses/{status}"} for status in errors}
    answered = {
        str(status): {
            "description": "Done." if status < 300 else _ERRORS.get(status, "Not done."),
            "content": {kind: {"schema": schema}},
        }
        for status, (kind, schema) in answers.items()
    }
    return {
        "operationId": re.sub(r"\W+", "_", name).strip("_"),
        "summary": about.split(". ")[0].rstrip("."),
        "description": about,
        "tags": [tag],
        "responses": dict(sorted((errors_by_status | answered).items())),
    }


def _error(status: int, about: str) -> Json:
    headers: Json = {}
    if status in (429, 503):
        headers = {
            "headers": {
                "Retry-After": {
                    "description": "Seconds until the next try.",
                    "schema": {"type": "integer", "minimum": 1},
                }
            }
        }
    return {"description": about, "content": {JSON: {"schema": ERROR}}} | headers


def _parameters(path: str, fields: Iterable[Field], in_path: Iterable[str] = ()) -> Iterator[Json]:
    for field in sorted(fields, key=lambda field: field.name not in in_path):
        placed = field.name in in_path
        yield {
            "name": field.name,
            "in": "path" if placed else "query",
            "required": field.required or placed,
            "description": field.about or meaning(path, field.name),
            "schema": _type(path, field),
        }


def _object(path: str, fields: Iterable[Field]) -> Json:
    declared = list(fields)
    shape: Json = {"type": "object", "properties": {field.name: _property(path, field) for field in declared}}
    required = [field.name for field in declared if field.required]
    return shape | ({"required": required} if required else {})


def _property(path: str, field: Field) -> Json:
    return _type(path, field) | {"description": field.about or meaning(path, field.name)}


def _type(path: str, field: Field) -> Json:
    match field.kind:
        case Kind.STRING:
            shape: Json = {"type": "string"} | ({"minLength": 1} if field.required else {})
        case Kind.INT32 | Kind.INT64:
            shape = _integer(field)
        case Kind.DOUBLE:
            shape = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
        case Kind.BOOL:
            shape = {"type": "boolean"}
        case Kind.CHOICE:
            shape = {"enum": list(field.choices)}
        case Kind.STRINGS:
            bound = {} if field.most is None else {"maxItems": field.most}
            shape = {"type": "array", "items": {"type": "string"}} | bound
        case Kind.OBJECTS:
            shape = {"type": "array", "items": _object(f"{path}.{field.name}", field.fields)}
        case Kind.OBJECT:
            shape = _object(f"{path}.{field.name}", field.fields)
    # In MLflow's protobuf an empty text means absent.
    return shape if field.default in (None, "") else shape | {"default": field.default}


def _integer(field: Field) -> Json:
    limit = _INTEGERS[field.kind]
    least = -limit if field.least is None else field.least
    most = limit - 1 if field.most is None else field.most
    return {"type": "integer", "format": field.kind.value, "minimum": least, "maximum": most}


def openapi_operation(build: Callable[[], Json]) -> RawOperation[NoFields]:
    """Return the operation that answers the document. `build` makes it once, at the first request."""

    @lru_cache(maxsize=1)
    def encoded() -> bytes:
        return msgspec.json.encode(build())

    async def handler(_: Services, __: RawCall[NoFields]) -> Response:
        return Response(encoded(), media_type=JSON)

    return RawOperation(
        "GET",
        "/openapi.json",
        NoFields,
        handler,
        "This document.",
        {200: (JSON, {"type": "object"})},
        errors=(),
        guarded=False,
    )
