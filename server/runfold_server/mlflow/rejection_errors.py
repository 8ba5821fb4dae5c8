"""A fold's rejection as MLflow's error. Its message depends on the call, which the event identifies."""

from runfold_projections.experiments.rejections import ExperimentRejection
from runfold_projections.operations.outcomes import SET_ASIDE
from runfold_projections.runs.rejections import RunRejection
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.experiments import (
    ExperimentDeleted,
    ExperimentFact,
    ExperimentRenamed,
    ExperimentRestored,
    ExperimentTagsDeleted,
)
from runfold_schemas.events.runs import ParamsLogged, RunFact, TagsDeleted
from runfold_server.core.entity_errors import experiment_not_active, no_experiment, no_run, run_not_active
from runfold_server.core.errors import AlreadyExists, ApiError, Internal, InvalidParameter, NotFound
from runfold_server.writes.writes import RejectedWrite


def as_mlflow_error(refused: RejectedWrite, *, single_param: bool = False) -> ApiError:
    """Return the error to answer. `single_param` picks the message of log-parameter, which differs from log-batch's."""
    event, details = refused.event, refused.rejection.details
    if refused.rejection.code == SET_ASIDE:
        return Internal(f"The server's own event became a dead letter: {refused.rejection.message}")
    match refused.rejection.code:
        case ExperimentRejection.EXISTS:
            return AlreadyExists(f"Experiment(name={details.get('name', getattr(event, 'name', ''))}) already exists.")
        case ExperimentRejection.NOT_FOUND:
            return no_experiment(_experiment_id(event))
        case ExperimentRejection.NOT_ACTIVE:
            return _experiment_not_active(event, str(details.get("lifecycle_stage", "deleted")))
        case ExperimentRejection.TAG_NOT_FOUND:
            key = details.get("key", event.keys[0] if isinstance(event, ExperimentTagsDeleted) else "")
            return NotFound(f"No tag with name: {key} in experiment with id {_experiment_id(event)}")
        case RunRejection.NOT_FOUND:
            return no_run(_run_id(event))
        case RunRejection.NOT_ACTIVE:
            return run_not_active(_run_id(event), str(details.get("lifecycle_stage", "deleted")))
        case RunRejection.TAG_NOT_FOUND:
            key = details.get("key", event.keys[0] if isinstance(event, TagsDeleted) else "")
            return NotFound(f"No tag with name: {key} in run with id {_run_id(event)}")
        case RunRejection.PARAM_CHANGED:
            return _param_changed(event, details.get("conflicts", []), single_param)
        case RunRejection.EXISTS:
            return AlreadyExists(refused.rejection.message)
    return InvalidParameter(refused.rejection.message)


def _experiment_not_active(event: Event, stage: str) -> ApiError:
    # MLflow looks for an experiment to delete among active ones, and for one to restore among deleted ones.
    if isinstance(event, ExperimentDeleted | ExperimentRestored):
        return no_experiment(event.experiment_id)
    if isinstance(event, ExperimentRenamed):
        # MLflow answers 500 INVALID_STATE, which its client retries for minutes.
        return InvalidParameter("Cannot rename a non-active experiment.")
    return experiment_not_active(_experiment_id(event), stage)


def _param_changed(event: Event, conflicts: list[dict[str, str]], single: bool) -> InvalidParameter:
    run_id = _run_id(event)
    if single and isinstance(event, ParamsLogged) and len(conflicts) == 1:
        one = conflicts[0]
        return InvalidParameter(
            f"Changing param values is not allowed. Param with key='{one['key']}' was already logged with "
            f"value='{one['old_value']}' for run ID='{run_id}'. Attempted logging new value '{one['new_value']}'."
        )
    ordered = [{name: c[name] for name in ("key", "old_value", "new_value")} for c in conflicts]
    return InvalidParameter(
        f"Changing param values is not allowed. Params were already logged='{ordered}' for run ID='{run_id}'."
    )


def _experiment_id(event: Event) -> int:
    assert isinstance(event, ExperimentFact)
    return event.experiment_id


def _run_id(event: Event) -> str:
    assert isinstance(event, RunFact)
    return event.run_id
