"""metrics/get-history."""

from typing import Any

from runfold_schemas.topics import Topic

from .. import answers
from ..api import Api, Call, Operation
from ..document.shapes import page
from ..errors import InvalidParameter
from ..large import ITEMS, beside
from ..reading.reads import of_run, of_runs
from ..requests import Field, Kind
from . import pages
from .runs import RUN_ID


async def _get_history(api: Api, call: Call) -> dict[str, Any]:
    args = call.args
    run_id, key, limit = args["run_id"], args["metric_key"], args["max_results"]
    if limit is not None and limit <= 0:
        raise InvalidParameter(
            f"Invalid value {limit} for parameter 'max_results' supplied. It must be a positive integer."
        )
    offset = pages.read_token(args["page_token"])
    rows = (
        await api.reader.asked(
            call.as_of,
            of_run(run_id, Topic.METRICS, Topic.RUNS),
            lambda connection: api.histories.read(connection, run_id, key, call.as_of),
            lambda found: of_runs(found.ancestors, Topic.METRICS, Topic.RUNS),
        )
    ).value
    stop = len(rows.steps) if limit is None else offset + limit
    token = pages.make_token(stop) if stop < len(rows.steps) else None
    if min(stop, len(rows.steps)) - offset > ITEMS:
        shown = await beside(answers.history, key, rows, offset, stop)
    else:
        shown = answers.history(key, rows, offset, stop)
    return answers.page("metrics", shown, token)


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
