"""Whatever bytes arrive: an event, BadRecord or UndeclaredSchema; nothing else, soon, and in little memory."""

import io
import tracemalloc
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runfold_schemas.codec import metrics, wire
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Raw, Record, read_record
from runfold_schemas.codec.varint import encode_long
from runfold_schemas.errors import MAX_MESSAGE_CHARS, BadRecord, Reason, UndeclaredSchema
from runfold_schemas.events.all_events import as_json
from runfold_schemas.positions.position import Position
from runfold_schemas.positions.topics import PARTITIONED, Topic, partition_count, partition_of
from tests.support.histories.schema_strategies import as_fields, goldens, number_path, quick

GOLDENS = {golden["subject"]: golden for golden in goldens()}
SUBJECTS = pytest.mark.parametrize("subject", GOLDENS)
PARTITIONS = 8


def raw_of(golden: dict[str, Any], **changes: Any) -> Raw:
    """The golden record where it belongs in a log."""
    subject, workspace = golden["subject"], golden["envelope"]["workspace"]
    topic = min(released_catalog().newest(subject).topics)
    own = golden["event"].get("run_id") or golden["event"].get("owner") if topic in PARTITIONED else None
    key = (own or workspace).encode()
    partition = partition_of(key, partition_count(topic, PARTITIONS))
    fields: dict[str, Any] = {
        "position": Position(topic, partition, 7),
        "timestamp_ms": 1,
        "key": key,
        "value": bytes.fromhex(golden["value"]),
        "headers": [(name, value.encode()) for name, value in golden["headers"]],
    }
    return Raw(**(fields | changes))


def read(raw: Raw) -> Record | None:
    """The record, or None where it was refused in the one right way."""
    try:
        return read_record(raw, released_catalog(), partition_count(raw.position.topic, PARTITIONS))
    except UndeclaredSchema:
        return None
    except BadRecord as error:
        message = str(error)
    assert "\x00" not in message
    assert 0 < len(message) <= MAX_MESSAGE_CHARS
    return None


@st.composite
def damaged(draw: st.DrawFn, data: bytes, start: int = 0) -> bytes:
    """The bytes with some cut out, put in or changed, from `start` on."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(start, len(out)))
        kind = draw(st.sampled_from(["cut", "remove", "insert", "set", "number"]))
        if kind == "cut":
            del out[at:]
        elif kind == "remove":
            del out[at : at + draw(st.integers(1, 9))]
        elif kind == "insert":
            out[at:at] = draw(st.binary(min_size=1, max_size=12))
        elif kind == "set":
            out[at : at + 1] = bytes([draw(st.integers(0, 255))])
        else:
            out[at : at + 1] = encode_long(draw(st.integers(-(2**63), 2**63 - 1)))
    return bytes(out)


@SUBJECTS
def test_the_undamaged_record_is_read(subject: str) -> None:
    record = read(raw_of(GOLDENS[subject]))
    assert record is not None
    assert as_json(record.event) == GOLDENS[subject]["event"]


@SUBJECTS
def test_every_truncation_is_refused(subject: str) -> None:
    raw = raw_of(GOLDENS[subject])
    assert raw.value is not None
    for length in range(len(raw.value)):
        assert read(raw_of(GOLDENS[subject], value=raw.value[:length])) is None
    assert read(raw_of(GOLDENS[subject], value=raw.value + b"\x00")) is None


@SUBJECTS
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_damaged_value_is_an_event_or_refused(subject: str, data: st.DataObject) -> None:
    value = data.draw(damaged(bytes.fromhex(GOLDENS[subject]["value"]), start=5))
    read(raw_of(GOLDENS[subject], value=value))


@pytest.mark.parametrize("path", ["numpy", "pure"])
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_damaged_metrics_are_an_event_or_refused_on_both_number_paths(path: str, data: st.DataObject) -> None:
    golden = GOLDENS["runfold.metrics.MetricsLogged"]
    with number_path(path):
        read(raw_of(golden, value=data.draw(damaged(bytes.fromhex(golden["value"]), start=5))))


@pytest.mark.parametrize("path", ["numpy", "pure"])
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_what_the_codec_accepts_of_damaged_metrics_fastavro_reads_the_same(path: str, data: st.DataObject) -> None:
    body = data.draw(damaged(bytes.fromhex(GOLDENS["runfold.metrics.MetricsLogged"]["value"])[5:]))
    schema: Any = released_catalog().newest("runfold.metrics.MetricsLogged").parsed
    with number_path(path):
        try:
            event = metrics.decode(body)
        except BadRecord:
            return
    fields: Any = fastavro.schemaless_reader(io.BytesIO(body), schema, None)
    assert repr(fields) == repr(as_fields(event))


@quick
@given(schema_id=st.integers(0, 25), body=st.binary(max_size=60), topic=st.sampled_from(Topic))
def test_random_bytes_are_an_event_or_refused(schema_id: int, body: bytes, topic: Topic) -> None:
    golden = GOLDENS["runfold.runs.TagsSet"]
    ids = {schema.schema_id: name for name, versions in released_catalog().subjects.items() for schema in versions}
    headers = {**dict(raw_of(golden).headers), "ce_type": ids.get(schema_id, "x").encode()}
    value = b"\x00" + schema_id.to_bytes(4, "big") + body
    read(raw_of(golden, value=value, headers=list(headers.items()), position=Position(topic, 0, 0)))


@quick
@given(value=st.none() | st.binary(max_size=8))
def test_a_value_without_a_frame_is_refused(value: bytes | None) -> None:
    read(raw_of(GOLDENS["runfold.runs.TagsSet"], value=value))


@SUBJECTS
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_damaged_headers_are_an_envelope_or_refused(subject: str, data: st.DataObject) -> None:
    headers: list[tuple[str, bytes]] = list(raw_of(GOLDENS[subject]).headers)
    at = data.draw(st.integers(0, len(headers) - 1))
    name, value = headers[at]
    kind = data.draw(st.sampled_from(["value", "name", "drop", "twice", "none"]))
    if kind == "value":
        headers[at] = (name, data.draw(damaged(value) | st.binary(max_size=40)))
    elif kind == "name":
        headers[at] = (data.draw(st.text(max_size=12)), value)
    elif kind == "drop":
        del headers[at]
    elif kind == "twice":
        headers.append((name, value))
    else:
        nothing: Any = None
        headers[at] = (name, nothing)
    read(raw_of(GOLDENS[subject], headers=headers))


CLAIMS = [2**20, 2**31, 2**40, 2**62, -(2**20), -(2**40), -(2**63) + 1, -(2**63)]


@SUBJECTS
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_huge_count_in_few_bytes_costs_no_memory(subject: str, claim: int) -> None:
    value = bytes.fromhex(GOLDENS[subject]["value"])
    variants = [value[:at] + encode_long(claim) + value[at + 1 :] for at in range(5, len(value))]
    tracemalloc.start()
    try:
        for variant in variants:
            read(raw_of(GOLDENS[subject], value=variant))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("at", [5 + 33, 5 + 34], ids=["frames", "keys"])
def test_a_huge_count_is_called_absurd(at: int) -> None:
    value = bytes.fromhex(GOLDENS["runfold.metrics.MetricsLogged"]["value"])
    head = value[:at] if at == 5 + 33 else value[: 5 + 33] + b"\x02"
    with pytest.raises(BadRecord, match=f"{2**40}") as caught:
        wire.decode(head + encode_long(2**40) + value[at + 1 :])
    assert caught.value.reason is Reason.ABSURD


def reason(raw: Raw, partitions: int = PARTITIONS) -> Reason:
    with pytest.raises(BadRecord) as caught:
        read_record(raw, released_catalog(), partitions)
    return caught.value.reason


def test_each_check_of_a_record_has_its_reason() -> None:
    golden = GOLDENS["runfold.runs.TagsSet"]
    raw = raw_of(golden)
    headers, (topic, partition, _), value = dict(raw.headers), raw.position, raw.value
    assert value is not None

    def with_header(name: str, text: bytes) -> list[tuple[str, bytes]]:
        return list({**headers, name: text}.items())

    assert reason(raw_of(golden, value=b"\x01" + value[1:])) is Reason.FRAMING
    assert reason(raw_of(golden, value=value[:4])) is Reason.FRAMING
    assert reason(raw_of(golden, value=None)) is Reason.FRAMING
    assert reason(raw_of(golden, value=value + bytes(wire.MAX_VALUE_BYTES))) is Reason.TOO_LARGE
    assert reason(raw_of(golden, value=value[:-1])) is Reason.BODY
    assert reason(raw_of(golden, value=value + b"\x00")) is Reason.TRAILING_BYTES
    assert reason(raw_of(golden, headers=with_header("ce_type", b"runfold.runs.TagsDeleted"))) is Reason.ENVELOPE
    assert reason(raw_of(golden, headers=with_header("ce_rules", b"2"))) is Reason.RULES_VERSION
    assert reason(raw_of(golden, position=Position(Topic.METRICS, partition, 0))) is Reason.TYPE_NOT_ALLOWED
    assert reason(raw_of(golden, key=b"other")) is Reason.KEY_MISMATCH
    assert reason(raw_of(golden, key=None)) is Reason.KEY_MISMATCH
    elsewhere = Position(topic, (partition + 1) % PARTITIONS, 0)
    assert reason(raw_of(golden, position=elsewhere)) is Reason.WRONG_PARTITION


def test_a_reason_that_quotes_a_nul_can_still_be_stored() -> None:
    golden = GOLDENS["runfold.runs.TagsSet"]
    value = bytes.fromhex(golden["value"]).replace(b"stage", b"st\x00ge")
    with pytest.raises(BadRecord, match=r"st\\0ge.*NUL") as caught:
        read_record(raw_of(golden, value=value), released_catalog(), PARTITIONS)
    assert caught.value.reason is Reason.ABSURD


def test_a_metrics_record_of_no_run_does_not_pass_as_the_workspaces() -> None:
    golden = GOLDENS["runfold.metrics.MetricsLogged"]
    value = b"\x00" + golden["schema_id"].to_bytes(4, "big") + b"\x00\x00"
    key = golden["envelope"]["workspace"].encode()
    position = Position(Topic.METRICS, partition_of(key, PARTITIONS), 0)
    assert reason(raw_of(golden, key=key, value=value, position=position)) is Reason.ABSURD


def test_an_unknown_schema_id_is_told_apart_from_poison() -> None:
    golden = GOLDENS["runfold.runs.TagsSet"]
    with pytest.raises(UndeclaredSchema) as caught:
        read_record(raw_of(golden, value=b"\x00\x00\x00\x03\xe7"), released_catalog(), PARTITIONS)
    assert caught.value.schema_id == 999
