"""metrics/get-history."""

from typing import Any

from runfold_schemas.positions.topics import Topic
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.operation import Call, Operation
from runfold_server.http.request_fields import Field, Kind
from runfold_server.http.services import Services
from runfold_server.mlflow import page_tokens
from runfold_server.mlflow.answers import runs
from runfold_server.openapi_schemas.common import page
from runfold_server.reads.reader import of_run, of_runs

from .runs import RUN_ID


async def _get_history(services: Services, call: Call) -> dict[str, Any]:
    args = call.args
    run_id, key, limit = args["run_id"], args["metric_key"], args["max_results"]
    if limit is not None and limit <= 0:
        raise InvalidParameter(
            f"Invalid value {limit} for parameter 'max_results' supplied. It must be a positive integer."
        )
    offset = page_tokens.read_token(args["page_token"])
    rows = (
        await services.reads.reader.asked(
            call.as_of,
            of_run(run_id, Topic.METRICS, Topic.RUNS),
            lambda connection: services.caches.histories.read(connection, run_id, key, call.as_of),
            lambda found: of_runs(found.ancestors, Topic.METRICS, Topic.RUNS),
        )
    ).value
    stop = len(rows.steps) if limit is None else offset + limit
    token = page_tokens.make_token(stop) if stop < len(rows.steps) else None
    return runs.page("metrics", runs.history(key, rows, offset, stop), token)


OPERATIONS = (
    Operation(
        "GET",
        "metrics/get-history",
        _get_history,
        (
            RUN_ID,
            Field("metric_key", required=True),
            Field("page_token"),
            Field("max_results", Kind.INT32),
        ),
        about="The points of a metric, by time, step and value; without `max_results` all of them.",
        answer=page("metrics", "Metric"),
        past=True,
    ),
)
