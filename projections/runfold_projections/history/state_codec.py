"""States of entities as bytes, for the journal. A generation is read by the layout that wrote it, so their form may change with the layout."""

from typing import Any

import msgspec
from msgspec.structs import astuple

from runfold_projections.experiments.fold import Experiment
from runfold_projections.logged_models.fold import LoggedModel
from runfold_projections.registry.fold import Model, Models, Version
from runfold_projections.registry.model_state import OneModel
from runfold_projections.runs.fold import Head, Run
from runfold_projections.webhooks.fold import Webhook
from runfold_schemas.events.runs import DatasetInput

_encode = msgspec.msgpack.Encoder().encode
_run_decoder = msgspec.msgpack.Decoder(
    tuple[tuple[Any, ...], dict[str, str], dict[str, str], list[dict[str, Any]], list[str], list[tuple[str, int]]]
)
_logged_model_decoder = msgspec.msgpack.Decoder(LoggedModel)
_model_decoder = msgspec.msgpack.Decoder(
    tuple[tuple[Any, ...], dict[str, int], dict[str, str], list[Version], dict[int, dict[str, str]]]
)
_experiment_decoder = msgspec.msgpack.Decoder(Experiment)
_webhook_decoder = msgspec.msgpack.Decoder(Webhook)


def write_run(run: Run) -> bytes:
    """A run."""
    datasets = [dataset.model_dump(by_alias=True) for dataset in run.datasets]
    return _encode((astuple(run.head), run.params, run.tags, datasets, run.models, run.outputs))


def read_run(data: bytes) -> Run:
    """What `write_run` was given."""
    head, params, tags, datasets, models, outputs = _run_decoder.decode(data)
    used = [DatasetInput.model_validate(dataset) for dataset in datasets]
    return Run(Head(*head), params, tags, used, models, outputs)


def write_experiment(experiment: Experiment) -> bytes:
    """An experiment."""
    return _encode(experiment)


def read_experiment(data: bytes) -> Experiment:
    """What `write_experiment` was given."""
    return _experiment_decoder.decode(data)


def write_logged_model(model: LoggedModel) -> bytes:
    """A logged model."""
    return _encode(model)


def read_logged_model(data: bytes) -> LoggedModel:
    """What `write_logged_model` was given."""
    return _logged_model_decoder.decode(data)


def write_model(born: int, one: OneModel) -> bytes:
    """A registered model, which is there, with its versions, aliases and tags."""
    state = one.state
    versions = list(state.versions.get(born, {}).values())
    tags = {number: tags for number, tags in one.version_tags.items() if tags}
    return _encode((astuple(state.by_born[born]), state.aliases.get(born, {}), one.tags, versions, tags))


def read_model(data: bytes) -> OneModel:
    """What `write_model` was given."""
    head, aliases, tags, versions, version_tags = _model_decoder.decode(data)
    model = Model(*head)
    state = Models(versions={model.born: {one.version: one for one in versions}}, aliases={model.born: aliases})
    state.put(model)
    return OneModel(state, tags, version_tags)


def write_webhook(webhook: Webhook) -> bytes:
    """A webhook."""
    return _encode(webhook)


def read_webhook(data: bytes) -> Webhook:
    """What `write_webhook` was given."""
    return _webhook_decoder.decode(data)
