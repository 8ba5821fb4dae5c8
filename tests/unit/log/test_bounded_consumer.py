"""Batches are inflated up to a bound, and what aiokafka is relied on for there is as it was."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import aiokafka
import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from runfold_log import bounded_consumer
from runfold_log.bounded_consumer import MOST_BATCH_BYTES, MOST_FETCH_BYTES, BoundedRecords
from runfold_log.producer import MAX_MESSAGE_BYTES
from runfold_schemas.codec.record import Raw, RefusedBatch, read_record
from runfold_schemas.codec.wire import MAX_VALUE_BYTES
from runfold_schemas.errors import BadRecord, Reason
from runfold_schemas.positions.topics import Topic
from tests.support.doubles import bombs

ROOT = Path(__file__).parents[3]
CODECS = (0, *bombs.CODECS.values())
values = st.lists(
    st.tuples(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=300)), min_size=1, max_size=8
)


def built(codec: int, records: list[tuple[bytes | None, bytes | None]], base: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 30)
    for n, (key, value) in enumerate(records):
        builder.append(n, 1_700_000_000_000 + n, key, value, [("h", b"v")])
    data = bytearray(builder.build())
    data[:8] = base.to_bytes(8, "big")
    return bytes(data)


def shown(records: Any) -> list[list[tuple[Any, ...]]]:
    out = []
    while records.has_next():
        batch = records.next_batch()
        assert batch.validate_crc()
        rows: list[tuple[Any, ...]] = [
            (r.offset, r.timestamp, r.timestamp_type, r.key, r.value, r.checksum, list(r.headers)) for r in batch
        ]
        out.append(rows)
        rows.append((batch.next_offset, batch.producer_id, batch.is_control_batch, batch.is_transactional))
    return out


def refused(data: bytes) -> tuple[int, str]:
    (batch,) = shown(BoundedRecords(data))
    (record, (next_offset, *_)) = batch
    assert isinstance(record[4], RefusedBatch)
    assert record[0] == next_offset - 1
    return record[0], record[4].why


@given(st.lists(st.tuples(st.sampled_from(CODECS), values), max_size=4), st.integers(0, 200))
def test_what_is_within_the_bound_is_what_aiokafka_reads(sent: list[Any], cut: int) -> None:
    data = b"".join(built(codec, records, 100 * n) for n, (codec, records) in enumerate(sent))
    data = data[: max(0, len(data) - cut)]
    assert shown(BoundedRecords(data)) == shown(MemoryRecords(data))


@pytest.mark.parametrize("codec", bombs.CODECS)
def test_the_bound_is_the_bound(codec: str) -> None:
    at_most = bombs.bomb(codec, 12)
    assert len(shown(BoundedRecords(at_most))[0][0][4]) == 12 << 20
    offset, why = refused(bombs.bomb(codec, 13))
    assert offset == 0
    assert why == f"offsets 0 to 0: {codec} that does not inflate to {MOST_BATCH_BYTES} bytes at most"


@pytest.mark.parametrize("codec", bombs.CODECS)
def test_several_frames_are_one_stream(codec: str) -> None:
    records = bombs.empty_records(2)
    frames = bombs.compressed(codec, iter([records[:7]])) + bombs.compressed(codec, iter([records[7:]]))
    if codec == "snappy":
        frames = bombs.compressed(codec, iter([records[:7], records[7:]]))
    assert len(shown(BoundedRecords(bombs.batch(bombs.CODECS[codec], frames, 2)))[0]) == 3
    zeros = bombs.compressed(codec, iter([bytes(1 << 20)] * 7))
    both = zeros + (zeros[16:] if codec == "snappy" else zeros)
    assert "does not inflate" in refused(bombs.batch(bombs.CODECS[codec], both))[1]


@pytest.mark.parametrize("codec", bombs.CODECS)
@pytest.mark.parametrize("content", [b"", b"garbage" * 9, b"\xff" * 5])
def test_what_does_not_inflate_is_refused_too(codec: str, content: bytes) -> None:
    assert "does not inflate" in refused(bombs.batch(bombs.CODECS[codec], content, 5))[1]


def test_snappy_that_claims_a_length_allocates_nothing() -> None:
    assert "snappy" in refused(bombs.batch(bombs.SNAPPY, b"\xff\xff\xff\xff\x0f" + b"\x00" * 10))[1]


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_unknown_codecs_are_refused(codec: int) -> None:
    assert "unknown codec" in refused(bombs.batch(codec, b"x"))[1]


def test_so_are_more_records_than_memory_is_for() -> None:
    records = bombs.empty_records(110_000)
    offset, why = refused(bombs.batch(0, records, 110_000))
    assert (offset, "110000 records" in why) == (109_999, True)
    assert "110000 records" in refused(bombs.batch(bombs.ZSTD, bombs.compressed("zstd", iter([records])), 110_000))[1]


def test_nor_more_headers() -> None:
    records = bombs.one_record([(b"", None)] * 600_000)
    data = bombs.batch(bombs.ZSTD, bombs.compressed("zstd", iter([records])))
    assert "1 records with 600000 headers" in refused(data)[1]
    few = bombs.batch(0, bombs.one_record([(b"k", b"v" * 10_000)] * 120))
    assert shown(BoundedRecords(few)) == shown(MemoryRecords(few))


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, bombs.GZIP, bombs.SNAPPY])
def test_the_formats_of_long_ago_are_read_without_compression_only(magic: Any, codec: int) -> None:
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 20)
    builder.append(0, 1_700_000_000_000, b"k", bytes(1000))
    data = bytes(builder.build())
    if codec:
        assert "before Kafka 0.11" in refused(data)[1]
    else:
        assert shown(BoundedRecords(data)) == shown(MemoryRecords(data))


def test_a_fetch_ends_early_once_enough_was_inflated() -> None:
    data = bombs.bomb("zstd", 6) * 10
    records = BoundedRecords(data)
    assert len(shown(records)) == -(-MOST_FETCH_BYTES // (6 << 20))
    assert records.size_in_bytes() == len(data)


def test_a_batch_that_was_damaged_on_its_way_is_aiokafkas_to_refuse() -> None:
    data = bytearray(bombs.bomb("zstd", 9))
    data[-3] ^= 1
    assert not BoundedRecords(bytes(data)).next_batch().validate_crc()


def test_a_stand_in_is_set_aside_with_its_reason() -> None:
    message = aiokafka.ConsumerRecord("t", 0, 7, 5, 1, None, RefusedBatch("why"), None, -1, 0, ())
    raw = Raw.of(Topic.RUNS, message)
    assert (raw.value, raw.timestamp_ms, raw.position.offset) == (None, 5, 7)
    with pytest.raises(BadRecord, match=r"^why$") as caught:
        read_record(raw, None, 1)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.TOO_LARGE


def test_aiokafkas_fetcher_is_as_it_was() -> None:
    """If this fails after an upgrade, see whether consumers are still bounded, and how."""
    assert fetcher.MemoryRecords is bounded_consumer._records
    source = inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "records = MemoryRecords(part_data[-1])" in source
    assert set(re.findall(r"\brecords\.(\w+)\(", source)) == {"has_next", "size_in_bytes"}
    unpack = inspect.getsource(fetcher.PartitionRecords._unpack_records)
    assert set(re.findall(r"\brecords\.(\w+)\(", unpack)) == {"has_next", "next_batch"}
    asked = set(re.findall(r"\bnext_batch\.(\w+)", unpack + inspect.getsource(fetcher.PartitionRecords)))
    stand_in = bounded_consumer._RefusedRecords(MemoryRecords(built(0, [(None, None)])).next_batch(), 0, "")
    assert asked <= {name for name in dir(stand_in) if not name.startswith("__")}
    assert "self._fetch_task = create_task(" in inspect.getsource(fetcher.Fetcher.__init__)
    assert "self._fetcher = Fetcher(" in inspect.getsource(aiokafka.AIOKafkaConsumer.start)


def test_the_largest_batch_of_ours_is_within_the_bound() -> None:
    assert MAX_MESSAGE_BYTES + 4096 < MOST_BATCH_BYTES
    assert len(shown(BoundedRecords(built(bombs.ZSTD, [(b"k", bytes(MAX_VALUE_BYTES))])))[0]) == 2


def test_every_consumer_of_ours_is_a_bounded_one() -> None:
    rooms = ("schemas", "log", "producers", "projections", "consumers", "server", "stack")
    calls = [
        str(path.relative_to(ROOT))
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if "AIOKafkaConsumer(" in path.read_text()
    ]
    assert calls == []
