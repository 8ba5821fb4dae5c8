"""registered-models/*: the registry's fold decides about names; reads are strong."""

from typing import Any

from runfold_projections.queries.registered_models import (
    RegisteredModel,
    get_registered_model,
    registered_model_born_at,
)
from runfold_schemas.events import DEFAULT_WORKSPACE
from runfold_schemas.registered_models import RegisteredModelCreated
from runfold_schemas.topics import Topic

from .. import registry_answers as answers
from ..api import Api, Call, Operation
from ..errors import Internal
from ..reads import of_topics
from ..registry_writes import needs_registry
from ..requests import Field, Kind
from ..shapes import having, ref
from ..writes import RefusedWrite
from . import registry_limits as limits
from .registry_refusals import no_model, said

Json = dict[str, Any]
TAG = (Field("key", default=""), Field("value", default=""))
REGISTRY = of_topics(Topic.REGISTRY)


async def find_model(api: Api, name: str) -> RegisteredModel:
    """The model, by a strong read; NotFound if there is none."""
    limits.check_model_name(name)
    shown = await api.reader.strong(
        REGISTRY, lambda connection: get_registered_model(connection, DEFAULT_WORKSPACE, name)
    )
    if shown.value is None:
        raise no_model(name)
    return shown.value


async def _create(api: Api, call: Call) -> Json:
    name = limits.check_model_name(call.args["name"])
    tags = dict(limits.check_tag(tag["key"], tag["value"]) for tag in call.args["tags"])
    event = RegisteredModelCreated(name=name, description=call.args["description"] or None, tags=tags)
    await needs_registry(api)
    try:
        created = await api.writes.decide(
            event,
            call.origin,
            lambda done: lambda connection: registered_model_born_at(connection, done.position.offset),
        )
    except RefusedWrite as refused:
        raise said(refused) from None
    if created is None:
        raise Internal("The registered model was accepted, but has been deleted since")
    return {"registered_model": answers.registered_model(created)}


async def _get(api: Api, call: Call) -> Json:
    return {"registered_model": answers.registered_model(await find_model(api, call.args["name"]))}


NAME = Field("name", required=True)

OPERATIONS = (
    Operation(
        "POST",
        "registered-models/create",
        _create,
        (NAME, Field("tags", Kind.OBJECTS, fields=TAG), Field("description")),
        about="Create a registered model. Its name must be new.",
        answer=having({"registered_model": ref("RegisteredModel")}),
        errors=(501,),
    ),
    Operation(
        "GET",
        "registered-models/get",
        _get,
        (NAME,),
        about="A registered model by its name, with its aliases and the latest version of each stage.",
        answer=having({"registered_model": ref("RegisteredModel")}),
    ),
)
