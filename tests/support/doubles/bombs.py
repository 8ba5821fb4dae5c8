"""Record batches of Kafka that are small on the wire and large once inflated; made piece by piece, so that a test stays
small.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import cramjam
from aiokafka.record.util import calc_crc32c, encode_varint

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
CODECS = {"gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}
_PIECE = bytes(1024 * 1024)


def bomb(codec: str, megabytes: int) -> bytes:
    """A batch of one record whose value are this many MiB of zeros."""
    pieces = [_record_start(len(_PIECE) * megabytes), *([_PIECE] * megabytes), b"\x00"]
    return batch(CODECS[codec], compressed(codec, iter(pieces)))


def compressed(codec: str, pieces: Iterator[bytes]) -> bytes:
    """The pieces as one stream."""
    if codec == "gzip":
        packer = zlib.compressobj(9, wbits=31)
        return b"".join([*(packer.compress(piece) for piece in pieces), packer.flush()])
    if codec == "snappy":
        blocks = [bytes(cramjam.snappy.compress_raw(piece)) for piece in pieces]
        return b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + b"".join(struct.pack(">i", len(b)) + b for b in blocks)
    if codec == "lz4":
        stream: Any = cramjam.lz4.Compressor(level=9, content_checksum=False, block_linked=False)
    else:
        stream = cramjam.zstd.Compressor(19)
    for piece in pieces:
        stream.compress(piece)
    return bytes(stream.finish())


def batch(codec: int, records: bytes, count: int = 1) -> bytes:
    """A batch in the format of today, with its checksum."""
    now = int(time.time() * 1000)
    body = struct.pack(">hiqqqhii", codec, count - 1, now, now, -1, -1, -1, count) + records
    return struct.pack(">qiibI", 0, 9 + len(body), -1, 2, calc_crc32c(body)) + body


def empty_records(count: int) -> bytes:
    """Records without key, value and headers: as many objects as possible of as few bytes."""
    out = bytearray()
    for n in range(count):
        body = bytearray(b"\x00\x00")
        encode_varint(n, body.append)
        body += b"\x01\x01\x00"
        encode_varint(len(body), out.append)
        out += body
    return bytes(out)


def one_record(headers: list[tuple[bytes, bytes | None]]) -> bytes:
    """A record of headers alone."""
    body = bytearray(b"\x00\x00\x00\x01\x01")
    encode_varint(len(headers), body.append)
    for name, value in headers:
        encode_varint(len(name), body.append)
        body += name
        encode_varint(-1 if value is None else len(value), body.append)
        body += value or b""
    out = bytearray()
    encode_varint(len(body), out.append)
    return bytes(out + body)


def _record_start(size: int) -> bytes:
    rest = bytearray(b"\x00\x00\x00\x01")
    encode_varint(size, rest.append)
    start = bytearray()
    encode_varint(len(rest) + size + 1, start.append)
    return bytes(start + rest)


async def send(producer: Any, topic: str, partition: int, data: bytes) -> int:
    """Append a batch as it is; its offset."""
    builder = producer.create_batch()
    builder.append(timestamp=None, key=None, value=b"")
    builder._build()
    builder._buffer = bytearray(data)
    return int((await (await producer.send_batch(builder, topic, partition=partition))).offset)
