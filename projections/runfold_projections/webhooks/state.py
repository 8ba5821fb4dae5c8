"""The encoded state of a webhook, as the journal keeps it."""

import msgspec

from .fold import Webhook

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Webhook)


def encode_webhook(webhook: Webhook) -> bytes:
    """Encode a webhook; `decode_webhook` reads it back."""
    return _encode(webhook)


def decode_webhook(data: bytes) -> Webhook:
    """Decode what `encode_webhook` returned."""
    return _decoder.decode(data)
