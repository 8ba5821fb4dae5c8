"""The encoded state of an experiment, as the journal keeps it."""

import msgspec

from .fold import ExperimentState

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(ExperimentState)


def encode_experiment(experiment: ExperimentState) -> bytes:
    """Encode an experiment; `decode_experiment` reads it back."""
    return _encode(experiment)


def decode_experiment(data: bytes) -> ExperimentState:
    """Decode what `encode_experiment` returned."""
    return _decoder.decode(data)
