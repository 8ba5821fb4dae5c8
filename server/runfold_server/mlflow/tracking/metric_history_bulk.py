"""metrics/get-history-bulk and get-history-bulk-interval: one metric of many runs, for MLflow's charts."""

from typing import Annotated, Any

import numpy as np

from runfold_projections.postgres.connection import Connection
from runfold_projections.series.latest import MetricHistory
from runfold_schemas.positions.topics import Topic
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.messages import Int32, Message, Rule
from runfold_server.http.operation import Call, Operation, TimeTravel
from runfold_server.http.services import Services
from runfold_server.mlflow.answers.metrics import RunPointAnswer, encode_run_points
from runfold_server.mlflow.answers.values import without_empty
from runfold_server.openapi_schemas.common import having, listed, ref
from runfold_server.reads.scopes import Scope, of_runs

MOST_RUNS = 100
MOST_POINTS = 25_000
MOST_PER_RUN = 2500
Json = dict[str, Any]


class GetHistoryBulk(Message, frozen=True):
    """metrics/get-history-bulk."""

    run_id: tuple[str, ...] = ()
    metric_key: str | None = None
    max_results: Annotated[int, Rule(least=0)] = MOST_POINTS


class GetHistoryBulkInterval(Message, frozen=True):
    """metrics/get-history-bulk-interval."""

    run_ids: Annotated[
        tuple[str, ...],
        Rule(
            most=MOST_RUNS,
            unfit=f"GetMetricHistoryBulkInterval request must specify at most {MOST_RUNS} run_ids. Received {{}} "
            "run_ids.",
        ),
    ]
    metric_key: str
    start_step: Int32 | None = None
    end_step: Int32 | None = None
    max_results: Annotated[
        int, Rule(bits=32, least=1, most=MOST_PER_RUN, unfit=f"max_results must be between 1 and {MOST_PER_RUN}.")
    ] = MOST_PER_RUN


_POINTS_OF = (Topic.METRICS, Topic.RUNS)
_READ = (*_POINTS_OF, Topic.EXPERIMENTS)
"""Topics that answers are read from. An experiment may set the rank reduction of its runs."""
_Found = tuple[list[RunPointAnswer], set[str]]
"""Points, and the runs that some points were inherited from."""


def _ancestors(found: _Found) -> Scope:
    return of_runs(found[1], *_POINTS_OF)


async def _bulk(services: Services, call: Call[GetHistoryBulk]) -> Json:
    """Answer all points by run id, then in the order of each history, up to `max_results`."""
    request = call.request
    run_ids, key, limit = request.run_id, request.metric_key, min(request.max_results, MOST_POINTS)
    if not run_ids:
        raise InvalidParameter("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(run_ids) > MOST_RUNS:
        raise InvalidParameter(
            f"GetMetricHistoryBulk request cannot specify more than {MOST_RUNS} run_ids. Received {len(run_ids)} "
            "run_ids."
        )
    if key is None:
        raise InvalidParameter("GetMetricHistoryBulk request must specify a metric_key.")

    async def query(connection: Connection) -> _Found:
        found: list[RunPointAnswer] = []
        ancestors: set[str] = set()
        for run_id in sorted(set(run_ids)):
            if len(found) >= limit:
                break
            rows = await services.caches.histories.read(connection, run_id, key, call.as_of)
            found += encode_run_points(run_id, key, rows, slice(0, limit - len(found)))
            ancestors |= rows.ancestors
        return found, ancestors

    return {
        "metrics": (
            await services.reads.reader.read(of_runs(run_ids, *_READ), query, _ancestors, as_of=call.as_of)
        ).value[0]
    }


async def _interval(services: Services, call: Call[GetHistoryBulkInterval]) -> Json:
    """Answer points spread evenly over each run's, by step, then time and value, with the first and the last."""
    request = call.request
    run_ids, key, limit = request.run_ids, request.metric_key, request.max_results
    start, end = request.start_step, request.end_step
    if (start is None) != (end is None):
        raise InvalidParameter("If either start step or end step are specified, both must be specified.")
    if start is not None and end is not None and start > end:
        raise InvalidParameter(
            f"end_step must be greater than start_step. Found start_step={start} and end_step={end}."
        )

    async def query(connection: Connection) -> _Found:
        found: list[RunPointAnswer] = []
        ancestors: set[str] = set()
        for run_id in run_ids:
            rows = await services.caches.histories.read(connection, run_id, key, call.as_of)
            found += encode_run_points(run_id, key, rows, sampled(rows, limit, start, end))
            ancestors |= rows.ancestors
        return found, ancestors

    found, _ = (await services.reads.reader.read(of_runs(run_ids, *_READ), query, _ancestors, as_of=call.as_of)).value
    return without_empty({"metrics": found})


def sampled(rows: MetricHistory, limit: int, start: int | None, end: int | None) -> Any:
    """Return indexes of at most `limit` points with start <= step <= end, in order of (step, time, value).

    As MLflow's SQL does: the first point of each of `limit` buckets of NTILE, but the very last point for the last
    bucket.
    """
    nan = np.isnan(rows.values)
    order = np.lexsort((nan, np.where(nan, 0.0, rows.values), rows.times, rows.steps))
    if start is not None and end is not None:
        steps = rows.steps[order]
        order = order[(steps >= start) & (steps <= end)]
    count = len(order)
    if count <= limit:
        return order
    size, larger = divmod(count, limit)
    buckets = np.arange(limit)
    first = buckets * size + np.minimum(buckets, larger)
    first[-1] = count - 1
    return order[first]


OPERATIONS = (
    Operation(
        "GET",
        "metrics/get-history-bulk",
        GetHistoryBulk,
        _bulk,
        about="The points of a metric of up to 100 runs, by run, time, step and value; of runs with a "
        "`runfold.rankReduction` one a step.",
        answer=having({"metrics": listed(ref("RunMetric"))}),
        time_travel=TimeTravel.AS_OF,
    ),
    Operation(
        "GET",
        "metrics/get-history-bulk-interval",
        GetHistoryBulkInterval,
        _interval,
        about="The points of a metric of up to 100 runs, spread evenly over each run's points, by step, time and "
        "value; of runs with a `runfold.rankReduction` one a step.",
        answer=having({}, {"metrics": listed(ref("RunMetric"))}),
        time_travel=TimeTravel.AS_OF,
    ),
)
