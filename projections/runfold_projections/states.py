"""States of entities as bytes, for the journal. A generation is read by the layout that wrote it, so their form may change with the layout."""

from dataclasses import astuple
from typing import Any

import msgspec

from runfold_schemas.events import DatasetInput

from .folds.experiments import Experiment
from .folds.runs import Head, Run

_encode = msgspec.msgpack.Encoder().encode
_run_decoder = msgspec.msgpack.Decoder(
    tuple[tuple[Any, ...], dict[str, str], dict[str, str], list[dict[str, Any]], list[str]]
)
_experiment_decoder = msgspec.msgpack.Decoder(Experiment)


def write_run(run: Run) -> bytes:
    """A run."""
    datasets = [dataset.model_dump(by_alias=True) for dataset in run.datasets]
    return _encode((astuple(run.head), run.params, run.tags, datasets, run.models))


def read_run(data: bytes) -> Run:
    """What `write_run` was given."""
    head, params, tags, datasets, models = _run_decoder.decode(data)
    return Run(Head(*head), params, tags, [DatasetInput.model_validate(dataset) for dataset in datasets], models)


def write_experiment(experiment: Experiment) -> bytes:
    """An experiment."""
    return _encode(experiment)


def read_experiment(data: bytes) -> Experiment:
    """What `write_experiment` was given."""
    return _experiment_decoder.decode(data)
