"""runs/create, get, search, update, delete, restore."""

import asyncio
import random
from typing import Any

from runfold.names import run_name
from runfold_projections.runs.queries import Run, RunHead, ViewType, get_run
from runfold_schemas.events.artifact_paths import root_below
from runfold_schemas.events.runs import RunCreated, RunDeleted, RunRestored, RunUpdated
from runfold_server.caches.run_cache import ACTIVE
from runfold_server.caches.run_search_cache import Question
from runfold_server.core.entity_errors import no_run
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.operation import Call, Operation
from runfold_server.http.request_fields import Field, Kind
from runfold_server.http.services import Services
from runfold_server.mlflow import page_tokens, validation
from runfold_server.mlflow.answers import runs
from runfold_server.mlflow.errors import said
from runfold_server.openapi_schemas.common import having, page, ref
from runfold_server.reads.one_run import RUN_TOPICS, find_run
from runfold_server.reads.reader import of_topics
from runfold_server.writes.writes import RefusedWrite

from .experiments import TAG, VIEWS, check_max_results, experiment_id

Json = dict[str, Any]
_IN_LOOP = 2_000
"""Metrics of a run beyond which its answer is made in a thread."""
_random = random.SystemRandom()
RUN_NAME_TAG = "mlflow.runName"
STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
MOST_RUNS = 50_000
RUN_ID = Field("run_id", required=True, alias="run_uuid")


async def _create(services: Services, call: Call) -> Json:
    args = call.args
    experiment = await services.caches.experiments.active(experiment_id(args["experiment_id"]))
    tags = {}
    for tag in args["tags"]:
        if not tag["key"]:
            raise InvalidParameter("Missing value for required parameter 'tags.key'.")
        tags[validation.check_length("key", validation.MAX_KEY, tag["key"])] = validation.check_length(
            "value", validation.MAX_LONG_VALUE, tag["value"]
        )
    name = _name(args["run_name"], tags.get(RUN_NAME_TAG, ""))
    run_id = services.ids.run_id()
    event = RunCreated(
        run_id=run_id,
        experiment_id=experiment.experiment_id,
        name=name,
        user_id=args["user_id"],
        start_ms=args["start_time"],
        artifact_uri=root_below(experiment.artifact_location, f"{run_id}/artifacts"),
        tags=tags | {RUN_NAME_TAG: name},
    )
    # Nobody else can have taken a fresh id, so no fold can refuse it: acknowledged on append.
    await services.writes.append(event, call.origin)
    services.caches.runs.created(RunHead(run_id, event.experiment_id, ACTIVE, STATUSES[0], name, event.artifact_uri))
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
    return {"run": runs.created_run(row)}


def _name(name: str, tag: str) -> str:
    if name and tag and name != tag:
        raise InvalidParameter(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with "
            f"different values (run_name='{name}', mlflow.runName='{tag}')."
        )
    return validation.check_length("run_name", validation.MAX_RUN_NAME, name or tag or run_name(_random))


async def _get(services: Services, call: Call) -> Json:
    found = (await find_run(services.reads.reader, call.args["run_id"], call.as_of)).value
    if len(found.metrics) > _IN_LOOP:
        return {"run": await asyncio.to_thread(runs.run, found)}
    return {"run": runs.run(found)}


async def _search(services: Services, call: Call) -> Json:
    args = call.args
    limit, offset = args["max_results"], page_tokens.read_token(args["page_token"])
    check_max_results(limit)
    wanted = [validation.parse_experiment_id(text) for text in args["experiment_ids"]]

    question = Question(wanted, args["filter"], ViewType[args["run_view_type"]], args["order_by"], limit + 1, offset)
    # MLflow's answer holds the metrics of each run, so the search waits for them, whether it needs_metrics() or not.
    rows = await services.caches.searches.strong(of_topics(*RUN_TOPICS), question)
    services.metrics.search_memory(services.caches.searches.nbytes)
    token = page_tokens.make_token(offset + limit) if len(rows) > limit else None
    return runs.page("runs", rows[:limit], token)


async def _update(services: Services, call: Call) -> Json:
    args = call.args
    run_id, status, end_ms, name = args["run_id"], args["status"], args["end_time"], args["run_name"] or None
    await services.caches.runs.active(run_id)
    if status is None and end_ms is None and name is None:
        return {"run_info": runs.run_info((await find_run(services.reads.reader, run_id)).value)}
    if name is not None:
        validation.check_length("run_name", validation.MAX_RUN_NAME, name)
    event = RunUpdated(run_id=run_id, status=status, end_ms=end_ms, name=name)
    try:
        row = await services.writes.decide(event, call.origin, lambda _: lambda connection: get_run(connection, run_id))
    except RefusedWrite as refused:
        raise said(refused) from None
    if row is None:
        raise no_run(run_id)
    return {"run_info": runs.run_info(row)}


async def _delete(services: Services, call: Call) -> Json:
    head = await services.caches.runs.present(call.args["run_id"])
    return await _lifecycle(services, call, RunDeleted(run_id=head.run_id))


async def _restore(services: Services, call: Call) -> Json:
    head = await services.caches.runs.present(call.args["run_id"])
    return await _lifecycle(services, call, RunRestored(run_id=head.run_id))


async def _lifecycle(services: Services, call: Call, event: RunDeleted | RunRestored) -> Json:
    try:
        await services.writes.decided(event, call.origin)
    except RefusedWrite as refused:
        raise said(refused) from None
    return {}


OPERATIONS = (
    Operation(
        "POST",
        "runs/create",
        _create,
        (
            Field("experiment_id", required=True),
            Field("user_id", default=""),
            Field("run_name", default=""),
            Field("start_time", Kind.INT64, default=0),
            Field("tags", Kind.OBJECTS, fields=TAG),
        ),
        about="Create a run. Without a name it gets one.",
        answer=having({"run": ref("Run")}),
    ),
    Operation(
        "GET",
        "runs/get",
        _get,
        (RUN_ID,),
        about="A run with its params, tags, latest metrics and inputs.",
        answer=having({"run": ref("Run")}),
        past=True,
    ),
    Operation(
        "POST",
        "runs/search",
        _search,
        (
            Field("experiment_ids", Kind.STRINGS),
            Field("filter", default=""),
            Field("run_view_type", Kind.CHOICE, choices=VIEWS, default="ACTIVE_ONLY"),
            Field("max_results", Kind.INT32, default=1000, most=MOST_RUNS),
            Field("order_by", Kind.STRINGS),
            Field("page_token"),
        ),
        about="Runs of experiments that match a filter, a page at a time.",
        answer=page("runs", "Run"),
        from_past=True,
    ),
    Operation(
        "POST",
        "runs/update",
        _update,
        (
            RUN_ID,
            Field("status", Kind.CHOICE, choices=STATUSES),
            Field("end_time", Kind.INT64),
            Field("run_name", default=""),
        ),
        about="Set a run's status, end or name. What is not given stays.",
        answer=having({"run_info": ref("RunInfo")}),
    ),
    Operation("POST", "runs/delete", _delete, (RUN_ID,), about="Delete a run. It can be restored."),
    Operation("POST", "runs/restore", _restore, (RUN_ID,), about="Restore a deleted run."),
)
