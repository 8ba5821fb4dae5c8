"""runs/{run_id} of the native API: a run with params, tags, latest metrics, inputs and outputs of one moment."""

from typing import Any

from starlette.responses import Response

from runfold_projections.runs.queries import Run
from runfold_server.http.large_json import ITEMS, beside
from runfold_server.http.messages import AnyText, Message
from runfold_server.http.operation import RawCall, RawOperation, TimeTravel
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.responses import json_answer, with_moment
from runfold_server.http.services import Services
from runfold_server.mlflow.tracking.runs import STATUSES
from runfold_server.native.series.json_numbers import NATIVE_NUMBER, number
from runfold_server.openapi_schemas.common import (
    INT64,
    JSON,
    MS,
    NULLABLE_INT,
    POSITIONS,
    STAGE,
    TEXT,
    Schema,
    having,
    listed,
    ref,
)
from runfold_server.reads.one_run import find_run
from runfold_server.reads.reader import Consistency

from .query_parameters import STRONG, ConsistencyName


class GetRun(Message, frozen=True):
    """runs/{run_id}."""

    run_id: AnyText
    consistency: ConsistencyName = STRONG


async def _run(services: Services, call: RawCall[GetRun]) -> Response:
    as_of = await services.reads.moments.of_request(call.http)
    shown = await find_run(services.reads.reader, call.request.run_id, as_of, Consistency(call.request.consistency))
    many = len(shown.value.metrics) > ITEMS
    run = await beside(native_run, shown.value) if many else native_run(shown.value)
    return with_moment(await json_answer({"run": run, "positions": shown.positions_json()}), as_of)


def native_run(row: Run) -> dict[str, Any]:
    """A run as the native API answers it."""
    return {
        "run_id": row.run_id,
        "experiment_id": str(row.experiment_id),
        "name": row.name,
        "user_id": row.user_id,
        "status": row.status,
        "lifecycle_stage": row.lifecycle_stage,
        "start_ms": row.start_ms,
        "end_ms": row.end_ms,
        "artifact_uri": row.artifact_uri,
        "params": row.params,
        "tags": row.tags,
        "metrics": {one.key: {"last": number(one.value), "step": one.step, "time": one.time_ms} for one in row.metrics},
        "datasets": [
            {
                "name": one.name,
                "digest": one.digest,
                "source_type": one.source_type,
                "source": one.source,
                "tags": one.tags,
            }
            for one in row.datasets
        ],
        "models": row.models,
        "outputs": [{"model_id": model_id, "step": step} for model_id, step in row.outputs],
    }


_TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
SHAPES = {
    "NativeRun": having(
        {
            "run_id": TEXT,
            "experiment_id": TEXT,
            "name": TEXT,
            "user_id": TEXT,
            "status": {"enum": list(STATUSES)},
            "lifecycle_stage": {**STAGE, "description": "`deleted` also while its experiment is."},
            "start_ms": MS,
            "end_ms": {**NULLABLE_INT, "description": "Milliseconds since the epoch; null while nobody has said."},
            "artifact_uri": TEXT,
            "params": _TEXTS,
            "tags": _TEXTS,
            "metrics": {
                "type": "object",
                "additionalProperties": having({"last": NATIVE_NUMBER, "step": INT64, "time": MS}),
                "description": "Key -> the latest value that it shows.",
            },
            "datasets": listed(
                having({"name": TEXT, "digest": TEXT, "source_type": TEXT, "source": TEXT, "tags": _TEXTS})
            ),
            "models": {**listed(TEXT), "description": "Ids of the logged models that it used."},
            "outputs": {
                **listed(having({"model_id": TEXT, "step": INT64})),
                "description": "The logged models that it made.",
            },
        },
        about="A run.",
    ),
}
OPERATIONS = (
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/runs/{{run_id}}",
        GetRun,
        _run,
        "A run with its params, tags, latest metrics, inputs and outputs, deleted or not. Strong unless asked "
        "otherwise.",
        {200: (JSON, having({"run": ref("NativeRun"), "positions": POSITIONS}))},
        time_travel=TimeTravel.AS_OF,
        errors=(400, 404, 503),
    ),
)
