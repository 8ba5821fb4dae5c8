"""Roots of the artifacts of runs and logged models, for the registry and the artifact routes."""

import re
from dataclasses import dataclass

from runfold_projections.logged_models.queries import logged_model_origin_of
from runfold_schemas.positions.topics import Topic
from runfold_server.core.entity_errors import no_run
from runfold_server.core.errors import NotFound
from runfold_server.core.own_folders import is_own
from runfold_server.http.services import Services
from runfold_server.reads.scopes import of_topics

_GIVEN = re.compile("[0-9a-f]{32}")
"""The form of run ids that servers generate."""


@dataclass(frozen=True, slots=True)
class ArtifactRoot:
    """The root of artifacts, and the run that made them."""

    artifact_uri: str
    run_id: str | None


async def run_artifact_root(services: Services, run_id: str) -> ArtifactRoot | None:
    """Return the root of a run, active or deleted; None if it does not exist or has no folder of its own."""
    try:
        head = await services.caches.runs.present(run_id)
    except NotFound:
        return None
    return ArtifactRoot(head.artifact_uri, run_id) if is_own(head.artifact_uri, f"{run_id}/artifacts") else None


async def logged_model_artifact_root(services: Services, workspace: str, model_id: str) -> ArtifactRoot | None:
    """Return the root of a logged model; None if it does not exist or is deleted, as in MLflow."""
    shown = await services.reads.reader.read(
        of_topics(Topic.REGISTRY), lambda connection: logged_model_origin_of(connection, workspace, model_id)
    )
    if shown.value is None or not is_own(shown.value[0], f"models/{model_id}/artifacts"):
        return None
    return ArtifactRoot(*shown.value)


async def check_run(services: Services, run_id: str | None, run_link: str | None = None) -> None:
    """Raise NotFound for the id of an unknown run.

    With a link the run is on another server. Text in another form than a generated id is a label of the user's.
    """
    if run_id and not run_link and _GIVEN.fullmatch(run_id) and await run_artifact_root(services, run_id) is None:
        raise no_run(run_id)


async def check_logged_model(services: Services, workspace: str, model_id: str | None) -> None:
    """Raise NotFound for a logged model that does not exist or is deleted."""
    if model_id and await logged_model_artifact_root(services, workspace, model_id) is None:
        raise no_logged_model(model_id)


def no_logged_model(model_id: str) -> NotFound:
    """Return the error for a logged model that does not exist."""
    return NotFound(f"Logged model with ID '{model_id}' not found.")
