"""runs/log-model: the call by which MLflow 2 clients and Spark's flavor add a model to a run."""

import json
from typing import Any

from runfold_schemas.events.base import parse_json
from runfold_schemas.events.runs import MAX_MODEL_CHARS, ModelLogged
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.operation import Call, Operation
from runfold_server.http.services import Services
from runfold_server.mlflow.messages import RunRequest
from runfold_server.mlflow.rejection_errors import as_mlflow_error
from runfold_server.writes.feature_levels import require_level
from runfold_server.writes.writes import RejectedWrite

Json = dict[str, Any]
_MANDATORY = ("artifact_path", "flavors", "run_id", "utc_time_created")


class LogModel(RunRequest, frozen=True):
    """runs/log-model."""

    model_json: str


async def _log_model(services: Services, call: Call[LogModel]) -> Json:
    run_id, text = call.request.run_id, call.request.model_json
    event = ModelLogged(run_id=run_id, model=json.dumps(summarize_model(text), ensure_ascii=False))
    await require_level(services.log, ModelLogged)
    await services.caches.runs.active(run_id)
    try:
        await services.writes.append_and_wait(event, call.origin)
    except RejectedWrite as refused:
        raise as_mlflow_error(refused) from None
    return {}


def summarize_model(text: str) -> Json:
    """Return the entry of a model in its run's history, as `mlflow.models.Model.get_tags_dict` of 3.17.2 does.

    InvalidParameter in MLflow's words.
    """
    try:
        model = parse_json(text)
    except ValueError:
        model = None
    if not isinstance(model, dict):
        raise InvalidParameter(f"Malformed model info. \n {text[:1000]} \n is not a valid JSON.")
    missing = [repr(name) for name in _MANDATORY if name not in model]
    if missing:
        raise InvalidParameter(f"Model json is missing mandatory fields: {{{', '.join(missing)}}}")
    if len(text) > MAX_MODEL_CHARS:
        raise InvalidParameter(f"'model_json' exceeds the maximum length of {MAX_MODEL_CHARS} characters")
    flavors = model["flavors"] or {}
    if not isinstance(flavors, dict):
        raise InvalidParameter("Malformed model info: flavors must be an object.")
    entry = {name: model[name] for name in ("run_id", "artifact_path") if model[name] is not None}
    return entry | {
        "utc_time_created": str(model["utc_time_created"]),
        "model_uuid": model.get("model_uuid"),
        "flavors": {name: _without_config(flavor) for name, flavor in flavors.items()},
    }


def _without_config(flavor: Any) -> Any:
    return {key: value for key, value in flavor.items() if key != "config"} if isinstance(flavor, dict) else flavor


OPERATIONS = (
    Operation(
        "POST",
        "runs/log-model",
        LogModel,
        _log_model,
        about="Add a model to the run's tag `mlflow.log-model.history`.",
        errors=(501,),
    ),
)
