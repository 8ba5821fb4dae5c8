"""The encoded state of a logged model, as the journal keeps it."""

import msgspec

from .fold import LoggedModelState

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(LoggedModelState)


def encode_logged_model(logged_model: LoggedModelState) -> bytes:
    """Encode a logged model; `decode_logged_model` reads it back."""
    return _encode(logged_model)


def decode_logged_model(data: bytes) -> LoggedModelState:
    """Decode what `encode_logged_model` returned."""
    return _decoder.decode(data)
