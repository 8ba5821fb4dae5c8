"""Whose stories can be asked for: runs, experiments, registered and logged models, webhooks."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from runfold_projections.experiments.history import ExperimentStory
from runfold_projections.history import timeline
from runfold_projections.history.entity_history import Story
from runfold_projections.history.run_branches import LineStory
from runfold_projections.logged_models.history import LoggedModelStory
from runfold_projections.postgres.connection import Connection
from runfold_projections.registry.history import ModelStory
from runfold_projections.runs.history import RunStory
from runfold_projections.webhooks.history import WebhookStory
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector
from runfold_server.core.entity_errors import as_of_suffix, no_experiment, no_run
from runfold_server.core.errors import NotFound
from runfold_server.http.services import Services
from runfold_server.mlflow.tracking.experiments import experiment_id
from runfold_server.reads.reader import Scope, of_run, of_topics

from .event_json import Json

Sources = Sequence[Story[Any]]
"""The stories that together tell of an entity; the first one has its fields."""


@dataclass(frozen=True)
class Subject:
    """A kind of entity: how its path names it, which partitions tell of it, and who it is in the journal; None: nobody. `holder` and
    `namesakes` are of entities whose name may go from one to another: whose it is at a moment, and who else had it."""

    path: str
    parameter: str
    scope: Callable[[str], Scope]
    sources: Callable[[Connection, str, Vector], Awaitable[Sources | None]]
    missing: Callable[[Connection, str, Vector | None], Awaitable[NotFound]]
    holder: Callable[[Connection, str, Vector], Awaitable[Story[Any] | None]] | None = None
    namesakes: Callable[[Connection, str, Story[Any], Vector], Awaitable[list[Json]]] | None = None

    def name_in(self, http: Request) -> str:
        """Return the entity's name in a request's path."""
        return str(http.path_params[self.parameter])


async def _run_sources(connection: Connection, run_id: str, vector: Vector) -> Sources | None:
    return await _told(connection, (RunStory(run_id), LineStory(run_id)), vector)


async def _experiment_sources(connection: Connection, text: str, vector: Vector) -> Sources | None:
    return await _told(connection, (ExperimentStory(experiment_id(text)),), vector)


async def _model_sources(connection: Connection, name: str, vector: Vector) -> Sources | None:
    born = await timeline.model_named(connection, DEFAULT_WORKSPACE, name, vector.get(Partition(Topic.REGISTRY, 0), 0))
    return None if born is None else (ModelStory(born),)


async def _model_holding(connection: Connection, name: str, vector: Vector) -> Story[Any] | None:
    born = await timeline.model_holding(
        connection, DEFAULT_WORKSPACE, name, vector.get(Partition(Topic.REGISTRY, 0), 0)
    )
    return None if born is None else ModelStory(born)


async def _model_namesakes(connection: Connection, name: str, story: Story[Any], vector: Vector) -> list[Json]:
    where = story.where(vector)
    born = story.born if isinstance(story, ModelStory) else -1
    found = await timeline.namesakes(connection, DEFAULT_WORKSPACE, name, born, vector.get(where, 0))
    return [{"id": str(Position(*where, one.born)), "as_of": str(Position(*where, one.until))} for one in found]


async def _logged_model_sources(connection: Connection, model_id: str, vector: Vector) -> Sources | None:
    return await _told(connection, (LoggedModelStory(model_id),), vector)


async def _webhook_sources(connection: Connection, webhook_id: str, vector: Vector) -> Sources | None:
    return await _told(connection, (WebhookStory(webhook_id),), vector)


async def _told(connection: Connection, sources: Sources, vector: Vector) -> Sources | None:
    return sources if await timeline.has_story(connection, sources[0], end_of(sources[0], vector)) else None


def end_of(story: Story[Any], vector: Vector) -> int:
    """Where, at the moment of the vector, the partition ends that the story lies in."""
    return vector.get(story.where(vector), 0)


async def _no_run(connection: Connection, run_id: str, vector: Vector | None) -> NotFound:
    return no_run(run_id, vector)


async def _no_experiment(connection: Connection, text: str, vector: Vector | None) -> NotFound:
    return no_experiment(text, vector)


async def _no_model(connection: Connection, name: str, vector: Vector | None) -> NotFound:
    message = f"Registered Model with name={name} not found{as_of_suffix(vector, Topic.REGISTRY)}"
    if vector is None:
        return NotFound(message)
    # Whoever asks of the past knows a model by the name that it has now.
    before = await timeline.named_before(
        connection, DEFAULT_WORKSPACE, name, vector.get(Partition(Topic.REGISTRY, 0), 0)
    )
    return NotFound(message if before is None else f"{message}: the model that got this name later was {before!r} then")


async def _no_logged_model(connection: Connection, model_id: str, vector: Vector | None) -> NotFound:
    return NotFound(f"Logged model with ID '{model_id}' not found{as_of_suffix(vector, Topic.REGISTRY)}")


async def _no_webhook(connection: Connection, webhook_id: str, vector: Vector | None) -> NotFound:
    return NotFound(f"There is no webhook of id '{webhook_id}'{as_of_suffix(vector, Topic.REGISTRY)}")


SUBJECTS = (
    Subject("runs/{run_id}", "run_id", lambda run_id: of_run(run_id, Topic.RUNS, Topic.METRICS), _run_sources, _no_run),
    Subject(
        "experiments/{experiment_id}",
        "experiment_id",
        lambda _: of_topics(Topic.EXPERIMENTS),
        _experiment_sources,
        _no_experiment,
    ),
    Subject(
        "logged-models/{model_id}",
        "model_id",
        lambda _: of_topics(Topic.REGISTRY),
        _logged_model_sources,
        _no_logged_model,
    ),
    Subject(
        "models/{name}",
        "name",
        lambda _: of_topics(Topic.REGISTRY),
        _model_sources,
        _no_model,
        _model_holding,
        _model_namesakes,
    ),
    Subject("webhooks/{webhook_id}", "webhook_id", lambda _: of_topics(Topic.REGISTRY), _webhook_sources, _no_webhook),
)


async def moment(services: Services, request: Request) -> tuple[Vector | None, Vector]:
    """The moment asked about, if any, and the vector up to which the answer goes: else all that there is."""
    asked = await services.reads.moments.of(request)
    return asked, asked if asked is not None else await services.reads.log_ends.now()
