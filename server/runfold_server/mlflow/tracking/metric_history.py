"""metrics/get-history."""

from typing import Any

import numpy as np

from runfold_projections.series.latest import MetricHistory
from runfold_schemas.events.rank_reduction import Reduction
from runfold_schemas.positions.topics import Topic
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.large_json import ITEMS, beside
from runfold_server.http.messages import Int32, Message
from runfold_server.http.operation import Call, Operation, TimeTravel
from runfold_server.http.services import Services
from runfold_server.mlflow import offset_tokens
from runfold_server.mlflow.answers.metrics import encode_history
from runfold_server.mlflow.answers.values import encode_page
from runfold_server.mlflow.messages import RunId
from runfold_server.openapi_schemas.common import page
from runfold_server.reads.scopes import of_run, of_runs


class GetHistory(Message, frozen=True):
    """metrics/get-history."""

    run_id: RunId
    metric_key: str
    page_token: str | None = None
    max_results: Int32 | None = None


async def _get_history(services: Services, call: Call[GetHistory]) -> dict[str, Any]:
    request = call.request
    run_id, key, limit = request.run_id, request.metric_key, request.max_results
    if limit is not None and limit <= 0:
        raise InvalidParameter(
            f"Invalid value {limit} for parameter 'max_results' supplied. It must be a positive integer."
        )
    page = offset_tokens.read_token_of_history(request.page_token) if request.page_token else None
    rows = (
        await services.reads.reader.read(
            of_run(run_id, Topic.METRICS, Topic.RUNS, Topic.EXPERIMENTS),
            lambda connection: services.caches.histories.read(connection, run_id, key, call.as_of, _reduction_of(page)),
            lambda found: of_runs(found.ancestors, Topic.METRICS, Topic.RUNS),
            as_of=call.as_of,
        )
    ).value
    start = _start(page, rows)
    stop = len(rows) if limit is None else start + limit
    token = _token(rows, stop) if stop < len(rows) else None
    if min(stop, len(rows)) - start > ITEMS:
        points = await beside(encode_history, key, rows, start, stop)
    else:
        points = encode_history(key, rows, start, stop)
    return encode_page("metrics", points, token)


def _reduction_of(page: int | offset_tokens.PageAfterStep | None) -> Reduction | None:
    """Return the reduction of the earlier pages; None for the first page, which uses the run's."""
    if page is None:
        return None
    return page.reduction if isinstance(page, offset_tokens.PageAfterStep) else Reduction.ALL


def _start(page: int | offset_tokens.PageAfterStep | None, rows: MetricHistory) -> int:
    if isinstance(page, offset_tokens.PageAfterStep):
        return int(np.searchsorted(rows.steps, page.step, "right"))
    return page or 0


def _token(rows: MetricHistory, stop: int) -> str:
    if rows.reduction is Reduction.ALL:
        return offset_tokens.make_token(stop)
    return offset_tokens.make_step_token(offset_tokens.PageAfterStep(int(rows.steps[stop - 1]), rows.reduction))


OPERATIONS = (
    Operation(
        "GET",
        "metrics/get-history",
        GetHistory,
        _get_history,
        about="The points of a metric, by time, step and value; without `max_results` all of them. With the tag "
        "`runfold.rankReduction` of the run or its experiment one point a step, by step.",
        answer=page("metrics", "Metric"),
        time_travel=TimeTravel.AS_OF,
    ),
)
