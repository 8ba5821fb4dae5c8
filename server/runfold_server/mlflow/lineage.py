"""Where files of a run, or of a logged model, lie. The registry looks here and nowhere else into what other parts keep."""

from dataclasses import dataclass

from runfold_projections.queries.logged_models import logged_model_origin_of
from runfold_schemas.topics import Topic

from ..api import Api
from ..artifacts.paths import is_own
from ..errors import NotFound
from ..reading.reads import of_topics


@dataclass(frozen=True, slots=True)
class Origin:
    """Root of the artifacts, and the run that made them."""

    artifact_uri: str
    run_id: str | None


async def run_origin(api: Api, run_id: str) -> Origin | None:
    """Of a run, active or deleted; None if there is none, or if its root is no folder of its own."""
    try:
        head = await api.runs.present(run_id)
    except NotFound:
        return None
    return Origin(head.artifact_uri, run_id) if is_own(head.artifact_uri, f"{run_id}/artifacts") else None


async def logged_model_origin(api: Api, workspace: str, model_id: str) -> Origin | None:
    """Of a logged model; None if there is none, or a deleted one, as for MLflow's server."""
    shown = await api.reader.strong(
        of_topics(Topic.REGISTRY), lambda connection: logged_model_origin_of(connection, workspace, model_id)
    )
    if shown.value is None or not is_own(shown.value[0], f"models/{model_id}/artifacts"):
        return None
    return Origin(*shown.value)
