"""models/{name} of the native API: a registered model with its versions and aliases, all of one moment."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runfold_projections.postgres.connection import Connection
from runfold_projections.registry.as_of import model_state_at, shown_model
from runfold_projections.registry.as_of import versions_of as past_versions
from runfold_projections.registry.queries import RegisteredModel, get_registered_model
from runfold_projections.registry.version_queries import ModelVersion, versions_of
from runfold_schemas.events.runs import DEFAULT_WORKSPACE
from runfold_server.http.dispatch import json_response, saying
from runfold_server.http.operation import RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.request_fields import Field, Kind
from runfold_server.http.services import Services
from runfold_server.mlflow.answers.registry import native_head, native_version
from runfold_server.mlflow.registry.errors import no_model
from runfold_server.mlflow.registry.version_search import REGISTRY, with_moment
from runfold_server.openapi_schemas.common import INT64, JSON, POSITIONS, having, listed, ref
from runfold_server.reads.reader import Consistency

from .query_parameters import consistency, consistency_field, next_page, number

_MOST = 10_000
Found = tuple[RegisteredModel, list[ModelVersion]]


async def _model(services: Services, request: Request) -> Response:
    name = str(request.path_params["name"])
    limit, offset = number(request, "limit", 1000, _MOST), number(request, "offset", 0, 2**31)

    as_of = await services.reads.moments.of(request)

    async def query(connection: Connection) -> Found | None:
        if as_of is not None:
            found = await model_state_at(connection, DEFAULT_WORKSPACE, name, as_of)
            return None if found is None else (shown_model(*found), past_versions(*found, limit + 1, offset))
        model = await get_registered_model(connection, DEFAULT_WORKSPACE, name)
        return None if model is None else (model, await versions_of(connection, model.born, limit + 1, offset))

    shown = await services.reads.reader.read(consistency(request, Consistency.STRONG), REGISTRY, query, as_of=as_of)
    if shown.value is None:
        raise with_moment(no_model(name), as_of)
    model, versions = shown.value
    answer: dict[str, Any] = {
        "model": native_head(model),
        "versions": [native_version(version) for version in versions[:limit]],
        "positions": shown.said(),
    }
    more = next_page(len(versions), limit, offset)
    return saying(json_response(answer | more), as_of)


OPERATIONS = (
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/models/{{name}}",
        _model,
        "A registered model, its aliases and its versions, the newest first. Strong unless asked otherwise.",
        {
            200: (
                JSON,
                having(
                    {
                        "model": ref("NativeModel"),
                        "versions": listed(ref("NativeModelVersion")),
                        "positions": POSITIONS,
                    },
                    {"next_offset": INT64},
                ),
            )
        },
        (
            Field("name", required=True),
            Field("limit", Kind.INT32, default=1000, least=0, most=_MOST),
            Field("offset", Kind.INT32, default=0, least=0),
            consistency_field(Consistency.STRONG),
        ),
        past=True,
        errors=(400, 404, 503),
    ),
)
