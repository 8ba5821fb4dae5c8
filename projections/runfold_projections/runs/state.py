"""The encoded state of a run, as the journal keeps it."""

from typing import Any

import msgspec
from msgspec.structs import astuple

from runfold_schemas.events.runs import DatasetInput

from .fold import Head, RunState

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(
    tuple[tuple[Any, ...], dict[str, str], dict[str, str], list[dict[str, Any]], list[str], list[tuple[str, int]]]
)


def encode_run(run: RunState) -> bytes:
    """Encode a run; `decode_run` reads it back."""
    datasets = [dataset.model_dump(by_alias=True) for dataset in run.datasets]
    return _encode((astuple(run.head), run.params, run.tags, datasets, run.models, run.outputs))


def decode_run(data: bytes) -> RunState:
    """Decode what `encode_run` returned."""
    head, params, tags, datasets, models, outputs = _decoder.decode(data)
    used = [DatasetInput.model_validate(dataset) for dataset in datasets]
    return RunState(Head(*head), params, tags, used, models, outputs)
