"""The encoded state of a registered model with its versions, aliases and tags, as the journal keeps it."""

from typing import Any

import msgspec
from msgspec.structs import astuple

from .fold import Model, Models, Version
from .model_state import OneModel

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(
    tuple[tuple[Any, ...], dict[str, int], dict[str, str], list[Version], dict[int, dict[str, str]]]
)


def encode_model(creation_offset: int, one: OneModel) -> bytes:
    """Encode a model that exists; `decode_model` reads it back."""
    state = one.state
    versions = list(state.versions.get(creation_offset, {}).values())
    tags = {number: tags for number, tags in one.version_tags.items() if tags}
    return _encode(
        (astuple(state.by_offset[creation_offset]), state.aliases.get(creation_offset, {}), one.tags, versions, tags)
    )


def decode_model(data: bytes) -> OneModel:
    """Decode what `encode_model` returned."""
    head, aliases, tags, versions, version_tags = _decoder.decode(data)
    model = Model(*head)
    state = Models(
        versions={model.creation_offset: {one.version: one for one in versions}},
        aliases={model.creation_offset: aliases},
    )
    state.put(model)
    return OneModel(state, tags, version_tags)
