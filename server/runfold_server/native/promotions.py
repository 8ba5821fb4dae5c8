"""models:promote of the native API: several aliases and stages at once, under conditions, wholly or not at all."""

from typing import Any

import msgspec
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from runfold_log.writer import Appended
from runfold_projections.core.rejection import RejectionCode
from runfold_projections.postgres.connection import Connection
from runfold_projections.registry.as_of import registered_model_at
from runfold_projections.registry.queries import RegisteredModel
from runfold_schemas.events.registered_models import MOST_IN_A_PROMOTION, ModelsPromoted
from runfold_schemas.events.runs import DEFAULT_WORKSPACE
from runfold_server.core.errors import ApiError, ErrorCode, InvalidParameter
from runfold_server.http.dispatch import json_response, read_body
from runfold_server.http.operation import RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.request_fields import Field, Kind, check_known, parse_json, read_json
from runfold_server.http.services import Services
from runfold_server.mlflow.answers.registry import native_head
from runfold_server.mlflow.registry.errors import said
from runfold_server.mlflow.registry.writes import behind, needs_registry
from runfold_server.openapi_schemas.common import (
    INT64,
    JSON,
    NULLABLE_INT,
    NULLABLE_TEXT,
    POSITION,
    TEXT,
    having,
    listed,
    ref,
)
from runfold_server.writes.writes import Origin, RefusedWrite

_MOST_BODY = 1024 * 1024
Json = dict[str, Any]


class NotPromoted(ApiError):
    """Conditions of a promotion do not hold; `failed` says which, and what holds."""

    code = ErrorCode.RESOURCE_CONFLICT

    def __init__(self, message: str, failed: list[Json]) -> None:
        super().__init__(message)
        self.failed = failed

    def body(self) -> bytes:
        return msgspec.json.encode(msgspec.json.decode(super().body()) | {"failed": self.failed})


async def _promote(services: Services, request: Request) -> Response:
    raw = read_json(await read_body(request, _MOST_BODY), request.headers.get("content-type"))
    args = parse_json(FIELDS, raw)
    # A misspelt `conditions` would promote without any, a misspelt `version` would take an alias away.
    check_known(FIELDS, raw)
    event = _event(args)
    names = list(dict.fromkeys(move.name for move in event.moves))

    def then(done: Appended) -> Any:
        async def read(connection: Connection) -> tuple[str, list[RegisteredModel]]:
            models = [await registered_model_at(connection, DEFAULT_WORKSPACE, name, behind(done)) for name in names]
            return str(done.position), [model for model in models if model is not None]

        return read

    await needs_registry(services)
    try:
        position, models = await services.writes.decide(event, Origin.of(request.headers.get), then)
    except RefusedWrite as refused:
        if refused.refused.code == RejectionCode.PROMOTION_CONDITION_FAILED:
            raise NotPromoted(refused.refused.message, refused.refused.details.get("failed", [])) from None
        raise said(refused) from None
    return json_response({"position": position, "models": [native_head(model) for model in models]})


def _event(args: Json) -> ModelsPromoted:
    try:
        return ModelsPromoted.model_validate(
            {
                "conditions": args["conditions"],
                "moves": args["moves"],
                "comment": args["comment"],
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidParameter(f"Invalid value for parameter '{where}' supplied: {first['msg']}") from None


_NAME, _ALIAS, _VERSION, _STAGE = (
    Field("name", required=True),
    Field("alias"),
    Field("version", Kind.INT32),
    Field("stage", Kind.CHOICE, choices=("None", "Staging", "Production", "Archived")),
)
FIELDS = (
    Field("conditions", Kind.OBJECTS, fields=(_NAME, _ALIAS, _VERSION, _STAGE)),
    Field(
        "moves",
        Kind.OBJECTS,
        required=True,
        fields=(_NAME, _ALIAS, _VERSION, _STAGE, Field("archive_existing", Kind.BOOL, default=False)),
    ),
    Field("comment", default=""),
)
_PART = {"name": TEXT, "alias": NULLABLE_TEXT, "version": NULLABLE_INT, "stage": NULLABLE_TEXT}
_BODY = having(
    {"moves": {**listed(having({"name": TEXT}, {**_PART, "archive_existing": {"type": "boolean"}})), "minItems": 1}},
    {"conditions": listed(having({"name": TEXT}, _PART)), "comment": TEXT},
    f"""Conditions, all of which must hold, and moves, made in their order; at most {MOST_IN_A_PROMOTION} of each. A condition: `alias` stands on `version` (without one:
on none); or `version` is there, and in `stage` if that is given; or, with neither, the model is there. A move: `alias` is set on `version` (without one: taken
away), or `version` gets `stage`, or both.""",
)
_FAILED = having(
    {
        "condition": {**INT64, "description": "Its place in the list, from 0."},
        "name": TEXT,
        "message": TEXT,
        "found": {
            "type": ["integer", "string", "null"],
            "description": "What holds: the version that the alias stands on, the version's stage, or null.",
        },
    },
    {"alias": TEXT, "version": INT64, "stage": TEXT},
)
OPERATIONS = (
    RawOperation(
        "POST",
        f"{NATIVE_PREFIX}/models:promote",
        _promote,
        "Move aliases and stages of one or several registered models by one event, if all conditions hold: wholly or not at all. "
        "What is answered is as of that event.",
        {
            200: (JSON, having({"position": POSITION, "models": listed(ref("NativeModel"))})),
            409: (
                JSON,
                having(
                    {"error_code": TEXT, "message": TEXT, "failed": listed(_FAILED)},
                    {"sqlstate": TEXT, "error_class": TEXT},
                    "A condition does not hold: nothing was changed.",
                ),
            ),
        },
        takes=JSON,
        body=_BODY,
        errors=(400, 404, 413, 501, 503),
    ),
)
