"""Kafka consumers that can't be made to inflate a small batch into a large one.

aiokafka inflates a record batch whole, whatever it grows to: 12 kB of zstd become 877 MB, at every restart again. Here
each batch of a fetch is inflated up to a bound before aiokafka sees it, and handed on as a batch without compression.
One that would pass the bound comes out as a single record, whose value is a `RefusedBatch`, in place of all its
records.

What this relies on in aiokafka is pinned by `tests/unit/log/test_bounded_consumer.py`: the fetcher makes
`MemoryRecords`, by that name, of what a broker sent for a partition, and asks it and its batches only for what is here.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import aiokafka.consumer.fetcher as fetcher
from aiokafka import AIOKafkaConsumer
from aiokafka.record.memory_records import MemoryRecords

from runfold_schemas.codec.record import RefusedBatch
from runfold_schemas.codec.varint import VarintError, decode_long
from runfold_schemas.codec.wire import MAX_VALUE_BYTES

MOST_BATCH_BYTES = MAX_VALUE_BYTES + 4 * 1024 * 1024
"""What a batch may be once inflated: more than the largest batch of ours, a record of the largest size with its
headers.
"""
MOST_FETCH_BYTES = 2 * MOST_BATCH_BYTES
"""Inflated bytes of one fetch's batches beyond which the rest is fetched again."""
RECORD_BYTES = 128
"""What a record counts beside its bytes: even an empty one becomes an object."""
HEADER_BYTES = 64
"""The same for a header, where they are counted: in batches of more bytes than these, which ours seldom have."""
_UNCOUNTED_BYTES = 1024 * 1024

_LOG_OVERHEAD = 12
_OLD_ATTRIBUTES_AT, _OLD_TIME_AT = 17, 18
_MAGIC_AT, _ATTRIBUTES_AT, _TIMES_AT, _COUNT_AT = 16, 21, 27, 57
_HEADER_BYTES = 61
_CODEC_MASK = 0x07
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16

_bounded: ContextVar[bool] = ContextVar("runfold_bounded", default=False)


class BoundedConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """An AIOKafkaConsumer whose batches are bounded. Other consumers of the same process stay as they are."""

    async def start(self) -> None:
        """Start; the fetcher's tasks, which are made here, see that this consumer is a bounded one."""
        token = _bounded.set(True)
        try:
            await super().start()
        finally:
            _bounded.reset(token)


class _Refused(Exception):
    """The batch does not inflate within the bound; the text says why."""


@dataclass(frozen=True, slots=True)
class _StandIn:
    """The one record of a refused batch, at its last offset, so that a reader continues behind the batch."""

    offset: int
    timestamp: int
    value: RefusedBatch
    timestamp_type: int = 1
    key: bytes | None = None
    checksum: int | None = None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


class _RefusedRecords:
    """A batch of one stand-in."""

    def __init__(self, batch: Any, time_ms: int, why: str) -> None:
        self.next_offset: int = batch.next_offset
        self.base_offset: int = getattr(batch, "base_offset", self.next_offset - 1)
        self.producer_id = batch.producer_id
        self.is_transactional: bool = batch.is_transactional
        self.is_control_batch = False
        value = RefusedBatch(f"offsets {self.base_offset} to {self.next_offset - 1}: {why}")
        self._record = _StandIn(self.next_offset - 1, time_ms, value)

    def validate_crc(self) -> bool:
        """Whether the batch came as it was sent: that was looked at before."""
        return True

    def __iter__(self) -> Iterator[_StandIn]:
        return iter((self._record,))


class _CheckedRecords:
    """A batch whose checksum was compared before it was inflated; aiokafka would compute it once more, and so would we
    for it.
    """

    is_control_batch = False

    def __init__(self, batch: Any) -> None:
        self._batch = batch
        self.next_offset: int = batch.next_offset
        self.producer_id = batch.producer_id
        self.is_transactional: bool = batch.is_transactional

    @property
    def base_offset(self) -> int:
        return int(self._batch.base_offset)

    def validate_crc(self) -> bool:
        """Whether the batch came as it was sent: that was looked at before."""
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batch)


class BoundedRecords:
    """What a broker sent for a partition, batch by batch, as aiokafka's MemoryRecords.

    It ends early once enough was handed out: the consumer then fetches from where it stands.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._left = data, 0, MOST_FETCH_BYTES
        self._end = self._find_end()

    def size_in_bytes(self) -> int:
        """Bytes of all that was sent."""
        return len(self._data)

    def has_next(self) -> bool:
        """Whether another whole batch is there and may be handed out."""
        return self._left > 0 and 0 < self._end <= len(self._data)

    def next_batch(self) -> Any:
        """The next batch: as it was sent, without its compression, or with a stand-in for its records."""
        data = self._data[self._at : self._end]
        self._at += len(data)
        self._end = self._find_end()
        batch = MemoryRecords(data).next_batch()
        # One that was damaged on its way is not poison: aiokafka refuses it for its checksum, and it is fetched again.
        if batch is None or not batch.validate_crc() or batch.is_control_batch:
            return batch
        try:
            plain = _inflated(data)
            cost = _cost(plain)
        except _Refused as why:
            return _RefusedRecords(batch, _time_of(data), str(why))
        self._left -= cost
        return _CheckedRecords(batch if plain is data else MemoryRecords(plain).next_batch())

    def _find_end(self) -> int:
        if len(self._data) - self._at < _LOG_OVERHEAD:
            return 0
        (length,) = struct.unpack_from(">i", self._data, self._at + 8)
        # A length that can't be is aiokafka's to refuse.
        return self._at + _LOG_OVERHEAD + max(0, int(length))


def _inflated(data: bytes) -> bytes:
    """The batch without compression; the batch itself if it has none."""
    if data[_MAGIC_AT] < 2:
        if data[_OLD_ATTRIBUTES_AT] & _CODEC_MASK:
            raise _Refused("compressed in a format of before Kafka 0.11, which is not read")
        return data
    codec = data[_ATTRIBUTES_AT + 1] & _CODEC_MASK
    if not codec:
        return data
    inflate = _CODECS.get(codec)
    if inflate is None:
        raise _Refused(f"compressed with an unknown codec, {codec}")
    return _uncompressed(data, inflate(data[_HEADER_BYTES:]))


def _uncompressed(data: bytes, records: bytes) -> bytes:
    """The batch with its header changed for these records, but for the checksum."""
    header = bytearray(data[:_HEADER_BYTES])
    struct.pack_into(">i", header, 8, _HEADER_BYTES - _LOG_OVERHEAD + len(records))
    header[_ATTRIBUTES_AT + 1] &= ~_CODEC_MASK
    return b"".join((header, records))


def _cost(data: bytes) -> int:
    """Bytes that the batch's records will take, about."""
    count = struct.unpack_from(">i", data, _COUNT_AT)[0] if data[_MAGIC_AT] >= 2 else 1
    headers = _count_headers(data) if len(data) > _UNCOUNTED_BYTES else 0
    cost = len(data) + RECORD_BYTES * int(count) + HEADER_BYTES * headers
    if cost > MOST_BATCH_BYTES:
        what = f"{count} records" + (f" with {headers} headers" if headers else "")
        raise _Refused(f"{what} in {len(data)} bytes; a batch is read up to about {MOST_BATCH_BYTES}")
    return cost


def _count_headers(data: bytes) -> int:
    """Headers of all records, as far as the batch can be read: where it can't, aiokafka ends, too."""
    at, total = _HEADER_BYTES, 0
    try:
        while at < len(data):
            size, at = decode_long(data, at)
            following = at + size
            at += 1
            for _ in ("time", "offset"):
                _, at = decode_long(data, at)
            for _ in ("key", "value"):
                size, at = decode_long(data, at)
                at += max(0, size)
            count, _ = decode_long(data, at)
            total += max(0, count)
            if following <= at:
                break
            at = following
    except VarintError:
        pass
    return total


def _time_of(data: bytes) -> int:
    if data[_MAGIC_AT] < 2:
        return int(struct.unpack_from(">q", data, _OLD_TIME_AT)[0]) if data[_MAGIC_AT] else 0
    first, latest = struct.unpack_from(">qq", data, _TIMES_AT)
    return int(latest if latest >= 0 else first)


def _too_large(codec: str) -> _Refused:
    return _Refused(f"{codec} that does not inflate to {MOST_BATCH_BYTES} bytes at most")


def _gunzip(data: bytes) -> bytes:
    parts: list[bytes] = []
    left = MOST_BATCH_BYTES
    try:
        while True:
            # A stream may have several members.
            member = zlib.decompressobj(wbits=31)
            parts.append(member.decompress(data, left + 1))
            left -= len(parts[-1])
            if left < 0 or not member.eof:
                raise _too_large("gzip")
            data = member.unused_data
            if not data:
                return b"".join(parts)
    except zlib.error:
        raise _too_large("gzip") from None


def _unsnap(data: bytes) -> bytes:
    # Imported on first use: few logs hold compressed batches.
    import cramjam

    def raw(block: bytes, left: int) -> bytes:
        # The length that a block claims is what is allocated for it.
        if cramjam.snappy.decompress_raw_len(block) > left:
            raise _too_large("snappy")
        return bytes(cramjam.snappy.decompress_raw(block))

    try:
        if not data.startswith(_XERIAL):
            return raw(data, MOST_BATCH_BYTES)
        parts, at, left = [], _XERIAL_HEADER_BYTES, MOST_BATCH_BYTES
        while at < len(data):
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            if length <= 0 or length > len(data) - at:
                raise _too_large("snappy")
            parts.append(raw(data[at : at + length], left))
            at += length
            left -= len(parts[-1])
        return b"".join(parts)
    except (cramjam.DecompressionError, struct.error):
        raise _too_large("snappy") from None


def _framed(codec: str) -> Callable[[bytes], bytes]:
    """lz4 and zstd: tried with a buffer that grows to the bound, since a frame need not say its size and may lie."""

    def inflate(data: bytes) -> bytes:
        import cramjam

        size = min(MOST_BATCH_BYTES, max(64 * 1024, 8 * len(data)))
        while True:
            room = bytearray(size)
            try:
                length: int = getattr(cramjam, codec).decompress_into(data, room)
            except cramjam.DecompressionError:
                if size == MOST_BATCH_BYTES:
                    raise _too_large(codec) from None
                size = min(MOST_BATCH_BYTES, 8 * size)
            else:
                return bytes(memoryview(room)[:length])

    return inflate


_CODECS = {_GZIP: _gunzip, _SNAPPY: _unsnap, _LZ4: _framed("lz4"), _ZSTD: _framed("zstd")}


def _records(data: bytes) -> Any:
    return BoundedRecords(data) if _bounded.get() else MemoryRecords(data)


fetcher.MemoryRecords = _records
