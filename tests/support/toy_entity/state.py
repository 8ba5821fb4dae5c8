"""The encoded state of a toy, as the journal keeps it."""

import msgspec

from .fold import Toy

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Toy)


def encode_toy(toy: Toy) -> bytes:
    """Encode a toy; `decode_toy` reads it back."""
    return _encode(toy)


def decode_toy(data: bytes) -> Toy:
    """Decode what `encode_toy` returned."""
    return _decoder.decode(data)
