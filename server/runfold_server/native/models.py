"""models/{name} of the native API: a registered model with its versions and aliases, all of one moment."""

from typing import Annotated, Any

from starlette.responses import Response

from runfold_projections.postgres.connection import Connection
from runfold_projections.registry.as_of import model_state_at, shown_model
from runfold_projections.registry.as_of import versions_of as past_versions
from runfold_projections.registry.queries import RegisteredModel, get_registered_model
from runfold_projections.registry.version_queries import ModelVersion, versions_of
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import RawCall, RawOperation, TimeTravel
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.responses import json_answer, with_moment
from runfold_server.http.services import Services
from runfold_server.mlflow.registry.registry_errors import no_model
from runfold_server.mlflow.registry.version_search import REGISTRY, error_as_of
from runfold_server.openapi_schemas.common import INT64, JSON, POSITIONS, having, listed, ref
from runfold_server.reads.reader import Consistency

from .model_json import encode_model, encode_version
from .query_parameters import STRONG, ConsistencyName, next_page

_MOST = 10_000
Found = tuple[RegisteredModel, list[ModelVersion]]


class VersionsOfModel(Message, frozen=True):
    """models/{name}."""

    name: str
    limit: Annotated[int, Rule(bits=32, least=0, most=_MOST)] = 1000
    offset: Annotated[int, Rule(bits=32, least=0)] = 0
    consistency: ConsistencyName = STRONG


async def _model(services: Services, call: RawCall[VersionsOfModel]) -> Response:
    name, limit, offset = call.request.name, call.request.limit, call.request.offset
    as_of = await services.reads.moments.of_request(call.http)

    async def query(connection: Connection) -> Found | None:
        if as_of is not None:
            found = await model_state_at(connection, DEFAULT_WORKSPACE, name, as_of)
            return None if found is None else (shown_model(*found), past_versions(*found, limit + 1, offset))
        model = await get_registered_model(connection, DEFAULT_WORKSPACE, name)
        return (
            None if model is None else (model, await versions_of(connection, model.creation_offset, limit + 1, offset))
        )

    shown = await services.reads.reader.read(
        REGISTRY, query, as_of=as_of, consistency=Consistency(call.request.consistency)
    )
    if shown.value is None:
        raise error_as_of(no_model(name), as_of)
    model, versions = shown.value
    answer: dict[str, Any] = {
        "model": encode_model(model),
        "versions": [encode_version(version) for version in versions[:limit]],
        "positions": shown.positions_json(),
    }
    more = next_page(len(versions), limit, offset)
    return with_moment(await json_answer(answer | more), as_of)


OPERATIONS = (
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/models/{{name}}",
        VersionsOfModel,
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
        time_travel=TimeTravel.AS_OF,
        errors=(400, 404, 503),
    ),
)
