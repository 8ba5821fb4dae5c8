"""Batches of ready records over HTTP: what was put in comes out; broken bodies are refused in the one right way."""

import io
import tracemalloc

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_schemas.codec.batch import (
    BATCH_SCHEMA,
    MAX_BATCH_BYTES,
    MAX_BATCH_RECORDS,
    Outgoing,
    decode_batch,
    decode_item,
    encode_batch,
    encode_item,
    join_items,
)
from runfold_schemas.codec.varint import encode_long
from runfold_schemas.errors import BadRecord, Reason
from runfold_schemas.positions.topics import Topic
from tests.support.histories.schema_strategies import quick, texts

outgoing = st.builds(
    Outgoing,
    st.sampled_from(Topic),
    st.binary(max_size=8),
    st.binary(max_size=20),
    st.lists(st.tuples(texts, st.binary(max_size=8)), max_size=3),
)
ONE = Outgoing(Topic.RUNS, b"r", b"\x00\x00\x00\x00\x01", [("ce_id", b"1")])


@quick
@given(st.lists(outgoing, max_size=5))
def test_a_batch_round_trips(records: list[Outgoing]) -> None:
    assert decode_batch(encode_batch(records)) == records


@quick
@given(st.lists(outgoing, max_size=5))
def test_a_batch_is_what_fastavro_writes_and_is_made_of_its_records(records: list[Outgoing]) -> None:
    reference = io.BytesIO()
    rows = [
        {
            "topic": record.topic.value,
            "key": record.key,
            "value": record.value,
            "headers": [{"name": name, "value": value} for name, value in record.headers],
        }
        for record in records
    ]
    fastavro.schemaless_writer(reference, BATCH_SCHEMA, rows)
    items = [encode_item(record) for record in records]
    assert reference.getvalue() == encode_batch(records) == join_items(items)
    assert [decode_item(item) for item in items] == records


@pytest.mark.parametrize("item", [b"", encode_item(ONE)[:-1], encode_item(ONE) + b"\x00"])
def test_what_is_not_one_record_is_refused(item: bytes) -> None:
    with pytest.raises(BadRecord):
        decode_item(item)


def test_every_truncation_and_trailing_byte_is_refused() -> None:
    body = encode_batch([ONE, ONE])
    for length in range(len(body)):
        with pytest.raises(BadRecord):
            decode_batch(body[:length])
    with pytest.raises(BadRecord) as caught:
        decode_batch(body + b"\x00")
    assert caught.value.reason is Reason.TRAILING_BYTES


@quick
@given(st.data())
def test_a_damaged_batch_is_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(encode_batch([ONE, ONE]))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at : at + 1] = data.draw(st.binary(max_size=4) | st.integers(-(2**63), 2**63 - 1).map(encode_long))
    try:
        decode_batch(bytes(body))
    except BadRecord:
        return


def test_batches_are_bounded_in_bytes_and_records() -> None:
    assert len(decode_batch(encode_batch([ONE] * MAX_BATCH_RECORDS))) == MAX_BATCH_RECORDS
    for body in (encode_batch([ONE] * (MAX_BATCH_RECORDS + 1)), bytes(MAX_BATCH_BYTES + 1)):
        with pytest.raises(BadRecord) as caught:
            decode_batch(body)
        assert caught.value.reason is Reason.TOO_LARGE


def test_a_body_of_nothing_but_headers_is_refused_before_they_are_read() -> None:
    count = 3_000_000
    body = encode_long(1) + b"\x08runs\x00\x00" + encode_long(count) + b"\x00\x00" * count + b"\x00\x00"
    tracemalloc.start()
    try:
        with pytest.raises(BadRecord, match="headers of a record"):
            decode_batch(body)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_an_unknown_topic_is_refused_with_the_topics() -> None:
    with pytest.raises(BadRecord, match="system, experiments, registry, runs, metrics"):
        decode_batch(encode_batch([ONE]).replace(b"runs", b"walk"))
