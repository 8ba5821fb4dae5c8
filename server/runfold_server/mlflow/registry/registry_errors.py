"""Rejections of the registry's fold as MLflow's errors."""

from runfold_projections.operations.outcomes import SET_ASIDE
from runfold_projections.registry.fold import PROMPT_TAG
from runfold_projections.registry.rejections import RegisteredModelRejection
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.registered_models import ModelAliasSet, RegisteredModelCreated, VersionFact
from runfold_server.core.errors import AlreadyExists, ApiError, Internal, InvalidParameter, NotFound
from runfold_server.writes.writes import RejectedWrite


def as_registry_error(refused: RejectedWrite) -> ApiError:
    """Return the error to answer."""
    message, details = refused.rejection.message, refused.rejection.details
    if refused.rejection.code == SET_ASIDE:
        return Internal(f"The server's own event became a dead letter: {message}")
    match refused.rejection.code:
        case RegisteredModelRejection.EXISTS:
            return _exists(refused.event, str(details.get("name", "")), bool(details.get("is_prompt")))
        case RegisteredModelRejection.NOT_FOUND if isinstance(refused.event, VersionFact | ModelAliasSet):
            # MLflow looks for the version alone.
            return no_version(refused.event.name, refused.event.version)
        case RegisteredModelRejection.NOT_FOUND:
            return no_model(str(details.get("name", "")))
        case RegisteredModelRejection.VERSION_NOT_FOUND:
            return no_version(str(details.get("name", "")), details.get("version", ""))
    return InvalidParameter(message)


def _exists(event: Event, name: str, is_prompt: bool) -> AlreadyExists:
    """Return the error of `handle_resource_already_exist_error` in `mlflow.prompt.registry_utils`."""
    if not isinstance(event, RegisteredModelCreated):
        return AlreadyExists(f"Registered Model (name={name}) already exists.")
    there, new = ("prompt" if one else "registered model" for one in (is_prompt, PROMPT_TAG in event.tags))
    if there != new:
        return AlreadyExists(
            f"Tried to create a {new} with name {name!r}, but the name is already taken by a {there}. MLflow does "
            "not allow creating a model and a prompt with the same name."
        )
    return AlreadyExists(f"{new.title()} (name={name}) already exists.")


def no_model(name: str) -> NotFound:
    """Return the error for a registered model that does not exist."""
    return NotFound(f"Registered Model with name={name} not found")


def no_version(name: str, version: int | str) -> NotFound:
    """Return the error for a version that does not exist."""
    return NotFound(f"Model Version (name={name}, version={version}) not found")
