"""experiments/*. Their topic has a total order; the fold assigns ids and decides about unique names."""

from typing import Any

from runfold_projections.experiments.as_of import experiment_at, experiment_named_at
from runfold_projections.experiments.queries import (
    Experiment,
    experiment_created_by,
    get_experiment,
    get_experiment_by_name,
    search_experiments,
)
from runfold_projections.postgres.connection import Connection
from runfold_projections.runs.queries import ViewType
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.events.experiments import (
    ExperimentCreated,
    ExperimentDeleted,
    ExperimentRenamed,
    ExperimentRestored,
    ExperimentTagsDeleted,
    ExperimentTagsSet,
)
from runfold_schemas.positions.topics import Topic
from runfold_server.core.entity_errors import as_of_suffix, no_experiment
from runfold_server.core.errors import Internal, InvalidParameter, NotFound
from runfold_server.http.messages import Message
from runfold_server.http.operation import Call, Operation, TimeTravel
from runfold_server.http.services import Services
from runfold_server.mlflow import offset_tokens, validation
from runfold_server.mlflow.answers.experiments import encode_experiment
from runfold_server.mlflow.answers.values import encode_page
from runfold_server.mlflow.messages import Tag, View
from runfold_server.mlflow.rejection_errors import as_mlflow_error
from runfold_server.openapi_schemas.common import TEXT, having, page, ref
from runfold_server.reads.scopes import of_topics
from runfold_server.writes.writes import RejectedWrite

from .tracking_writes import append_accepted

Json = dict[str, Any]
MOST_RESULTS = 50_000
_EXPERIMENTS = of_topics(Topic.EXPERIMENTS)
_LARGEST_ID = 2**63 - 1


class CreateExperiment(Message, frozen=True):
    """experiments/create."""

    name: str
    artifact_location: str | None = None
    tags: tuple[Tag, ...] = ()


class ExperimentRequest(Message, frozen=True):
    """A request about one experiment."""

    experiment_id: str


class GetExperimentByName(Message, frozen=True):
    """experiments/get-by-name."""

    experiment_name: str


class SearchExperiments(Message, frozen=True):
    """experiments/search."""

    view_type: View = "ACTIVE_ONLY"
    max_results: int = 0
    order_by: tuple[str, ...] = ()
    filter: str = ""
    page_token: str | None = None


class UpdateExperiment(ExperimentRequest, frozen=True):
    """experiments/update."""

    new_name: str


class SetExperimentTag(ExperimentRequest, frozen=True):
    """experiments/set-experiment-tag."""

    key: str
    value: str = ""


class DeleteExperimentTag(ExperimentRequest, frozen=True):
    """experiments/delete-experiment-tag."""

    key: str


def experiment_id(text: str) -> int:
    """Return the number of an experiment id; NotFound for a number that no experiment can have."""
    number = validation.parse_experiment_id(text)
    if not 0 <= number <= _LARGEST_ID:
        raise no_experiment(text)
    return number


async def find_experiment(services: Services, number: int) -> Experiment:
    """Return the experiment, by a strong read; NotFound if it does not exist."""
    shown = await services.reads.reader.read(_EXPERIMENTS, lambda connection: get_experiment(connection, number))
    if shown.value is None:
        raise no_experiment(number)
    return shown.value


async def _create(services: Services, call: Call[CreateExperiment]) -> Json:
    request = call.request
    name = validation.check_experiment_name(request.name)
    location = request.artifact_location or None
    if location is not None:
        validation.check_artifact_location(location)
    tags = dict(validation.check_experiment_tag(tag.key, tag.value) for tag in request.tags)
    event = ExperimentCreated(name=name, artifact_location=location, tags=tags)
    try:
        created = await services.writes.append_and_read(
            event, call.origin, lambda done: lambda connection: experiment_created_by(connection, done.event_id)
        )
    except RejectedWrite as refused:
        raise as_mlflow_error(refused) from None
    if created is None:
        raise Internal("The experiment was accepted, but it is not in the read models")
    return {"experiment_id": str(created.experiment_id)}


async def _get(services: Services, call: Call[ExperimentRequest]) -> Json:
    number, as_of = experiment_id(call.request.experiment_id), call.as_of

    async def query(connection: Connection) -> Experiment | None:
        found = get_experiment(connection, number) if as_of is None else experiment_at(connection, number, as_of)
        return await found

    shown = await services.reads.reader.read(_EXPERIMENTS, query, as_of=as_of)
    if shown.value is None:
        raise no_experiment(number, as_of)
    return {"experiment": encode_experiment(shown.value)}


async def _get_by_name(services: Services, call: Call[GetExperimentByName]) -> Json:
    name, as_of = call.request.experiment_name, call.as_of

    async def query(connection: Connection) -> Experiment | None:
        if as_of is not None:
            return await experiment_named_at(connection, DEFAULT_WORKSPACE, name, as_of)
        return await get_experiment_by_name(connection, DEFAULT_WORKSPACE, name)

    found = (await services.reads.reader.read(_EXPERIMENTS, query, as_of=as_of)).value
    if found is None:
        raise NotFound(f"Could not find experiment with name '{name}'{as_of_suffix(as_of, Topic.EXPERIMENTS)}")
    return {"experiment": encode_experiment(found)}


async def _search(services: Services, call: Call[SearchExperiments]) -> Json:
    request = call.request
    limit, offset = request.max_results, offset_tokens.read_token(request.page_token)
    check_max_results(limit)

    async def query(connection: Connection) -> list[Experiment]:
        view = ViewType[request.view_type]
        return await search_experiments(
            connection, DEFAULT_WORKSPACE, view, request.filter, request.order_by, limit + 1, offset
        )

    rows = (await services.reads.reader.read(_EXPERIMENTS, query)).value
    token = offset_tokens.make_token(offset + limit) if len(rows) > limit else None
    return encode_page("experiments", [encode_experiment(row) for row in rows[:limit]], token)


def check_max_results(limit: int) -> None:
    """Check the size of a page; InvalidParameter in MLflow's words."""
    problem = "a positive integer" if limit < 1 else f"at most {MOST_RESULTS}" if limit > MOST_RESULTS else None
    if problem:
        raise InvalidParameter(f"Invalid value {limit} for parameter 'max_results' supplied. It must be {problem}")


async def _append_and_wait(services: Services, call: Call[Any], event: Event) -> Json:
    await append_accepted(services.writes, event, call.origin)
    return {}


async def _update(services: Services, call: Call[UpdateExperiment]) -> Json:
    name = validation.check_experiment_name(call.request.new_name)
    number = experiment_id(call.request.experiment_id)
    return await _append_and_wait(services, call, ExperimentRenamed(experiment_id=number, name=name))


async def _delete(services: Services, call: Call[ExperimentRequest]) -> Json:
    return await _append_and_wait(
        services, call, ExperimentDeleted(experiment_id=experiment_id(call.request.experiment_id))
    )


async def _restore(services: Services, call: Call[ExperimentRequest]) -> Json:
    return await _append_and_wait(
        services, call, ExperimentRestored(experiment_id=experiment_id(call.request.experiment_id))
    )


async def _set_tag(services: Services, call: Call[SetExperimentTag]) -> Json:
    key, value = validation.check_experiment_tag(call.request.key, call.request.value)
    number = experiment_id(call.request.experiment_id)
    return await _append_and_wait(services, call, ExperimentTagsSet(experiment_id=number, tags={key: value}))


async def _delete_tag(services: Services, call: Call[DeleteExperimentTag]) -> Json:
    number, key = experiment_id(call.request.experiment_id), call.request.key
    if len(key) > validation.MAX_KEY:
        raise NotFound(f"No tag with name: {key} in experiment with id {number}")
    return await _append_and_wait(services, call, ExperimentTagsDeleted(experiment_id=number, keys=[key]))


OPERATIONS = (
    Operation(
        "POST",
        "experiments/create",
        CreateExperiment,
        _create,
        about="Create an experiment. No other experiment, active or deleted, may have its name.",
        answer=having({"experiment_id": TEXT}),
    ),
    Operation(
        "GET",
        "experiments/get",
        ExperimentRequest,
        _get,
        about="An experiment by its id.",
        answer=having({"experiment": ref("Experiment")}),
        time_travel=TimeTravel.AS_OF,
    ),
    Operation(
        "GET",
        "experiments/get-by-name",
        GetExperimentByName,
        _get_by_name,
        about="An experiment by its name, deleted or not.",
        answer=having({"experiment": ref("Experiment")}),
        time_travel=TimeTravel.AS_OF,
    ),
    Operation(
        "GET",
        "experiments/search",
        SearchExperiments,
        _search,
        about="Experiments that match a filter, a page at a time.",
        answer=page("experiments", "Experiment"),
        time_travel=TimeTravel.SNAPSHOT,
    ),
    Operation(
        "POST",
        "experiments/search",
        SearchExperiments,
        _search,
        about="Experiments that match a filter, a page at a time.",
        answer=page("experiments", "Experiment"),
        time_travel=TimeTravel.SNAPSHOT,
    ),
    Operation("POST", "experiments/update", UpdateExperiment, _update, about="Rename an experiment."),
    Operation(
        "POST",
        "experiments/delete",
        ExperimentRequest,
        _delete,
        about="Delete an experiment with its runs. It can be restored.",
    ),
    Operation(
        "POST",
        "experiments/restore",
        ExperimentRequest,
        _restore,
        about="Restore a deleted experiment and the runs deleted with it.",
    ),
    Operation(
        "POST",
        "experiments/set-experiment-tag",
        SetExperimentTag,
        _set_tag,
        about="Set a tag of an experiment.",
    ),
    Operation(
        "POST",
        "experiments/delete-experiment-tag",
        DeleteExperimentTag,
        _delete_tag,
        about="Remove a tag of an experiment.",
    ),
)
