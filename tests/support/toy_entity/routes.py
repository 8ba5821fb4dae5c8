"""toys/{toy_id} of the native API."""

from dataclasses import asdict
from typing import Annotated

from starlette.responses import Response

from runfold_schemas.positions.topics import Topic
from runfold_server.core.errors import NotFound
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import RawCall, RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.responses import json_response
from runfold_server.http.services import Services
from runfold_server.openapi_schemas.common import JSON, TEXT, having
from runfold_server.reads.scopes import of_topics

from .queries import get_toy


class ToyById(Message, frozen=True):
    """…/toys/{toy_id}."""

    toy_id: Annotated[str, Rule(about="Id of the toy.")]


async def _toy(services: Services, call: RawCall[ToyById]) -> Response:
    toy_id = call.request.toy_id
    read = await services.reads.reader.read(of_topics(Topic.REGISTRY), lambda connection: get_toy(connection, toy_id))
    if read.value is None:
        raise NotFound(f"There is no toy '{toy_id}'")
    return json_response(asdict(read.value))


OPERATIONS = (
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/toys/{{toy_id}}",
        ToyById,
        _toy,
        "A toy.",
        {200: (JSON, having({"toy_id": TEXT, "name": TEXT, "color": TEXT}))},
    ),
)
