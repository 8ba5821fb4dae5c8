"""models:promote of the native API: several aliases and stages at once, under conditions, all or nothing."""

from typing import Annotated, Any, Literal

import msgspec
from pydantic import ValidationError
from starlette.responses import Response

from runfold_log.writer import Appended
from runfold_projections.postgres.connection import Connection
from runfold_projections.registry.as_of import registered_model_at
from runfold_projections.registry.queries import RegisteredModel
from runfold_projections.registry.rejections import RegisteredModelRejection
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.events.registered_models import MOST_IN_A_PROMOTION, ModelsPromoted
from runfold_server.core.errors import ApiError, ErrorCode, InvalidParameter
from runfold_server.http.messages import Message, NoFields, Rule, parse_message
from runfold_server.http.operation import RawCall, RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.request_body import read_body, read_json
from runfold_server.http.responses import first_problem, json_response
from runfold_server.http.services import Services
from runfold_server.mlflow.registry.registry_errors import as_registry_error
from runfold_server.mlflow.registry.registry_writes import vector_after
from runfold_server.openapi_schemas.common import (
    INT64,
    JSON,
    POSITION,
    TEXT,
    having,
    listed,
    ref,
)
from runfold_server.writes.feature_levels import require_level
from runfold_server.writes.writes import RejectedWrite

from .model_json import encode_model

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


Stage = Literal["None", "Staging", "Production", "Archived"]


_CONDITIONS = (
    f"Conditions, all of which must hold; at most {MOST_IN_A_PROMOTION}. `alias` points to `version` (without one: to "
    "none); or `version` exists, and is in `stage` if that is given; or, with neither, the model exists."
)
_MOVES = (
    f"Moves, made in their order; at most {MOST_IN_A_PROMOTION}. `alias` is set on `version` (without one: "
    "removed), or "
    "`version` gets `stage`, or both."
)


class Condition(Message, frozen=True):
    """What must hold."""

    name: Annotated[str, Rule(about="Name of the registered model.")]
    alias: Annotated[str | None, Rule(about="An alias.")] = None
    version: Annotated[int | None, Rule(bits=32, about="Number of a version.")] = None
    stage: Annotated[Stage | None, Rule(about="A stage.")] = None


class Move(Condition, frozen=True):
    """An alias or a stage to set."""

    archive_existing: Annotated[bool, Rule(about="Whether other versions in the stage become `Archived`.")] = False


class Promotion(Message, frozen=True, kw_only=True):
    """The body of models:promote."""

    # A misspelt `conditions` would promote without any, a misspelt `version` would take an alias away.
    rejects_unknown = True
    conditions: Annotated[tuple[Condition, ...], Rule(about=_CONDITIONS)] = ()
    moves: Annotated[tuple[Move, ...], Rule(about=_MOVES)]
    comment: Annotated[str, Rule(about="Why.")] = ""


async def _promote(services: Services, call: RawCall[NoFields]) -> Response:
    raw = read_json(await read_body(call.http, _MOST_BODY), call.http.headers.get("content-type"))
    event = _event(parse_message(Promotion, raw))
    names = list(dict.fromkeys(move.name for move in event.moves))

    def query_after(done: Appended) -> Any:
        async def read(connection: Connection) -> tuple[str, list[RegisteredModel]]:
            models = [
                await registered_model_at(connection, DEFAULT_WORKSPACE, name, vector_after(done)) for name in names
            ]
            return str(done.position), [model for model in models if model is not None]

        return read

    await require_level(services.log, ModelsPromoted)
    try:
        position, models = await services.writes.append_and_read(event, call.origin, query_after)
    except RejectedWrite as refused:
        if refused.rejection.code == RegisteredModelRejection.PROMOTION_CONDITION_FAILED:
            raise NotPromoted(refused.rejection.message, refused.rejection.details.get("failed", [])) from None
        raise as_registry_error(refused) from None
    return json_response({"position": position, "models": [encode_model(model) for model in models]})


def _event(promotion: Promotion) -> ModelsPromoted:
    try:
        return ModelsPromoted.model_validate_json(msgspec.json.encode(promotion))
    except ValidationError as error:
        raise InvalidParameter(first_problem(error)) from None


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
        NoFields,
        _promote,
        "Move aliases and stages of one or several registered models by one event, if all conditions hold: all "
        "or not at all. "
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
        body_type=JSON,
        body=Promotion,
        errors=(400, 404, 413, 501, 503),
    ),
)
