"""runs/create, get, search, update, delete, restore."""

import random
from typing import Annotated, Any, Literal, get_args

from runfold.names import run_name
from runfold_projections.runs.queries import Run, RunInfo, ViewType, get_run
from runfold_schemas.events.artifact_paths import append_path
from runfold_schemas.events.runs import RunCreated, RunDeleted, RunRestored, RunUpdated
from runfold_server.caches.run_cache import ACTIVE
from runfold_server.caches.run_search_cache import Question
from runfold_server.core.entity_errors import no_run
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.large_json import ITEMS, beside
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import Call, Operation, TimeTravel
from runfold_server.http.services import Services
from runfold_server.mlflow import offset_tokens, validation
from runfold_server.mlflow.answers.runs import encode_created_run, encode_run, encode_run_info
from runfold_server.mlflow.answers.values import encode_page
from runfold_server.mlflow.messages import RunId, RunRequest, Tag, View
from runfold_server.mlflow.rejection_errors import as_mlflow_error
from runfold_server.openapi_schemas.common import having, page, ref
from runfold_server.reads.one_run import RUN_TOPICS, find_run
from runfold_server.reads.scopes import of_topics
from runfold_server.writes.writes import RejectedWrite

from .experiments import check_max_results, experiment_id
from .run_tags import RUN_NAME_TAG
from .tracking_writes import append_accepted

Json = dict[str, Any]
_random = random.SystemRandom()
RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
MOST_RUNS = 50_000


class CreateRun(Message, frozen=True):
    """runs/create."""

    experiment_id: str
    user_id: str = ""
    run_name: str = ""
    start_time: int = 0
    tags: tuple[Tag, ...] = ()


class SearchRuns(Message, frozen=True):
    """runs/search."""

    experiment_ids: tuple[str, ...] = ()
    filter: str = ""
    run_view_type: View = "ACTIVE_ONLY"
    max_results: Annotated[int, Rule(bits=32, most=MOST_RUNS)] = 1000
    order_by: tuple[str, ...] = ()
    page_token: str | None = None


class UpdateRun(Message, frozen=True):
    """runs/update."""

    run_id: RunId
    status: RunStatus | None = None
    end_time: int | None = None
    run_name: str = ""


async def _create(services: Services, call: Call[CreateRun]) -> Json:
    request = call.request
    experiment = await services.caches.experiments.active(experiment_id(request.experiment_id))
    tags = {}
    for tag in request.tags:
        if not tag.key:
            raise InvalidParameter("Missing value for required parameter 'tags.key'.")
        key = validation.check_length("key", validation.MAX_KEY, tag.key)
        tags[key] = validation.check_reduction(
            key, validation.check_length("value", validation.MAX_LONG_VALUE, tag.value)
        )
    name = _name(request.run_name, tags.get(RUN_NAME_TAG, ""))
    run_id = services.ids.run_id()
    event = RunCreated(
        run_id=run_id,
        experiment_id=experiment.experiment_id,
        name=name,
        user_id=request.user_id,
        start_ms=request.start_time,
        artifact_uri=append_path(experiment.artifact_location, f"{run_id}/artifacts"),
        tags=tags | {RUN_NAME_TAG: name},
    )
    # The id is fresh, so no fold can reject the event: it is acknowledged on append.
    await services.writes.append(event, call.origin)
    services.caches.runs.created(RunInfo(run_id, event.experiment_id, ACTIVE, STATUSES[0], name, event.artifact_uri))
    row = Run(
        run_id=run_id,
        experiment_id=event.experiment_id,
        name=name,
        user_id=event.user_id,
        status=STATUSES[0],
        start_ms=event.start_ms,
        end_ms=None,
        lifecycle_stage=ACTIVE,
        artifact_uri=event.artifact_uri,
        params={},
        tags=event.tags,
        metrics=[],
        datasets=[],
        models=[],
    )
    return {"run": encode_created_run(row)}


def _name(name: str, tag: str) -> str:
    if name and tag and name != tag:
        raise InvalidParameter(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{name}', mlflow.runName='{tag}')."
        )
    return validation.check_length("run_name", validation.MAX_RUN_NAME, name or tag or run_name(_random))


async def _get(services: Services, call: Call[RunRequest]) -> Json:
    found = (await find_run(services.reads.reader, call.request.run_id, call.as_of)).value
    if len(found.metrics) > ITEMS:
        return {"run": await beside(encode_run, found)}
    return {"run": encode_run(found)}


async def _search(services: Services, call: Call[SearchRuns]) -> Json:
    request = call.request
    limit, offset = request.max_results, offset_tokens.read_token(request.page_token)
    check_max_results(limit)
    wanted = [validation.parse_experiment_id(text) for text in request.experiment_ids]

    question = Question(wanted, request.filter, ViewType[request.run_view_type], request.order_by, limit + 1, offset)
    # MLflow's answer includes the metrics of each run, so the search always waits for their fold.
    rows = await services.caches.searches.strong(of_topics(*RUN_TOPICS), question)
    services.metrics.search_memory(services.caches.searches.nbytes)
    token = offset_tokens.make_token(offset + limit) if len(rows) > limit else None
    return encode_page("runs", rows[:limit], token)


async def _update(services: Services, call: Call[UpdateRun]) -> Json:
    request = call.request
    run_id, status, end_ms, name = request.run_id, request.status, request.end_time, request.run_name or None
    await services.caches.runs.active(run_id)
    if status is None and end_ms is None and name is None:
        return {"run_info": encode_run_info((await find_run(services.reads.reader, run_id)).value)}
    if name is not None:
        validation.check_length("run_name", validation.MAX_RUN_NAME, name)
    event = RunUpdated(run_id=run_id, status=status, end_ms=end_ms, name=name)
    try:
        row = await services.writes.append_and_read(
            event, call.origin, lambda _: lambda connection: get_run(connection, run_id)
        )
    except RejectedWrite as refused:
        raise as_mlflow_error(refused) from None
    if row is None:
        raise no_run(run_id)
    return {"run_info": encode_run_info(row)}


async def _delete(services: Services, call: Call[RunRequest]) -> Json:
    head = await services.caches.runs.present(call.request.run_id)
    return await _lifecycle(services, call, RunDeleted(run_id=head.run_id))


async def _restore(services: Services, call: Call[RunRequest]) -> Json:
    head = await services.caches.runs.present(call.request.run_id)
    return await _lifecycle(services, call, RunRestored(run_id=head.run_id))


async def _lifecycle(services: Services, call: Call[RunRequest], event: RunDeleted | RunRestored) -> Json:
    await append_accepted(services.writes, event, call.origin)
    return {}


OPERATIONS = (
    Operation(
        "POST",
        "runs/create",
        CreateRun,
        _create,
        about="Create a run. Without a name it gets one.",
        answer=having({"run": ref("Run")}),
    ),
    Operation(
        "GET",
        "runs/get",
        RunRequest,
        _get,
        about="A run with its params, tags, latest metrics and inputs.",
        answer=having({"run": ref("Run")}),
        time_travel=TimeTravel.AS_OF,
    ),
    Operation(
        "POST",
        "runs/search",
        SearchRuns,
        _search,
        about="Runs of experiments that match a filter, a page at a time.",
        answer=page("runs", "Run"),
        time_travel=TimeTravel.SNAPSHOT,
    ),
    Operation(
        "POST",
        "runs/update",
        UpdateRun,
        _update,
        about="Set a run's status, end or name. Other fields stay.",
        answer=having({"run_info": ref("RunInfo")}),
    ),
    Operation("POST", "runs/delete", RunRequest, _delete, about="Delete a run. It can be restored."),
    Operation("POST", "runs/restore", RunRequest, _restore, about="Restore a deleted run."),
)
