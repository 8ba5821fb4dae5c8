"""The metrics codec and fastavro are two readers and writers of one format."""

import io
import struct
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from random import Random
from typing import Any

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runfold_schemas.bounded_cache import BoundedCache
from runfold_schemas.codec import metrics as metrics_codec
from runfold_schemas.codec import varint
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.errors import BadEvent, BadRecord, Reason
from runfold_schemas.events.frames import Frame
from runfold_schemas.events.metrics import MetricsLogged
from tests.support.histories.schema_strategies import (
    INT64S,
    as_fields,
    avro_string,
    block,
    deltas,
    frames,
    metrics,
    number_path,
    quick,
    same,
)

SCHEMA: Any = released_catalog().to_write(MetricsLogged.subject).parsed
PATHS = pytest.mark.parametrize("path", ["numpy", "pure"])
EMPTY = Frame((), array("q"), array("q"), array("d"))


def fastavro_bytes(event: MetricsLogged) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, SCHEMA, as_fields(event))
    return out.getvalue()


def frame_of(steps: list[int], key: str = "k") -> Frame:
    return Frame((key,), array("q", steps), array("q", steps), array("d", [0.5] * len(steps)))


@PATHS
@quick
@given(event=metrics)
@example(event=MetricsLogged("r", ()))
@example(event=MetricsLogged("r", (EMPTY, EMPTY)))
@example(event=MetricsLogged("r", (frame_of([-(2**63), 2**63 - 1, -(2**63), 0, -1]),)))
@example(event=MetricsLogged("r", (frame_of(list(range(0, 900, 3))),)))
def test_codec_reads_what_fastavro_writes(path: str, event: MetricsLogged) -> None:
    with number_path(path):
        assert same(metrics_codec.decode(fastavro_bytes(event)), event)


@PATHS
@quick
@given(event=metrics)
def test_codec_reads_what_it_writes(path: str, event: MetricsLogged) -> None:
    with number_path(path):
        assert same(metrics_codec.decode(metrics_codec.encode(event)), event)


@quick
@given(event=metrics)
def test_fastavro_reads_what_the_codec_writes(event: MetricsLogged) -> None:
    fields: Any = fastavro.schemaless_reader(io.BytesIO(metrics_codec.encode(event)), SCHEMA, None)
    expected = as_fields(event)
    for frame in (*fields["frames"], *expected["frames"]):
        frame["values"] = struct.pack(f"<{len(frame['values'])}d", *frame["values"])
    assert fields == expected


@PATHS
@quick
@given(data=st.data(), frame=frames())
def test_any_layout_in_blocks_reads_the_same(path: str, data: st.DataObject, frame: Frame) -> None:
    def laid_out(items: list[bytes]) -> bytes:
        cuts = sorted({0, len(items), *data.draw(st.lists(st.integers(0, len(items)), max_size=4))})
        pieces = [items[a:b] for a, b in pairwise(cuts)]
        return b"".join(block(piece, data.draw(st.booleans())) for piece in pieces) + b"\x00"

    body = b"".join(
        (
            laid_out([avro_string(key) for key in frame.keys]),
            laid_out([varint.encode_long(delta) for delta in deltas(frame.steps)]),
            laid_out([varint.encode_long(delta) for delta in deltas(frame.times)]),
            laid_out([struct.pack("<d", value) for value in frame.values]),
            *(
                b"\x00" if text is None else b"\x02" + avro_string(text)
                for text in (frame.model_id, frame.dataset_name, frame.dataset_digest)
            ),
        )
    )
    value = avro_string("r") + laid_out([body, body])
    with number_path(path):
        assert same(metrics_codec.decode(value), MetricsLogged("r", (frame, frame)))


@PATHS
@quick
@given(values=st.lists(INT64S, min_size=1, max_size=30), before=INT64S)
def test_deltas_wrap_around_in_64_bits(path: str, values: list[int], before: int) -> None:
    encoded = b"".join(varint.encode_long(delta) for delta in deltas(array("q", [before, *values]))[1:])
    with number_path(path):
        decoded, end = varint.decode_deltas(b"?" + encoded + b"!", 1, len(values), before)
    assert list(decoded) == values
    assert end == 1 + len(encoded)


@quick
@given(INT64S)
def test_longs_round_trip(value: int) -> None:
    data = varint.encode_long(value)
    assert varint.decode_long(data, 0) == (value, len(data))


@PATHS
@pytest.mark.parametrize(
    "number",
    [b"\x80" * 9 + b"\x02", b"\xff" * 9 + b"\x7f", b"\x80" * 10 + b"\x00", b"\xff" * 12 + b"\x01", b"\x80", b""],
    ids=["65 bits", "70 bits", "eleven bytes of zero", "endless", "cut", "missing"],
)
def test_numbers_longer_than_64_bits_or_cut_are_refused(path: str, number: bytes) -> None:
    with number_path(path), pytest.raises(varint.VarintError):
        varint.decode_deltas(b"\x02" + number, 0, 2, 0)
    with pytest.raises(varint.VarintError):
        varint.decode_long(number, 0)


@PATHS
def test_a_number_longer_than_needed_is_read_up_to_ten_bytes(path: str) -> None:
    with number_path(path):
        for extra in range(9):
            data = b"\x82" + b"\x80" * extra + b"\x00" + b"\x02"
            assert varint.decode_long(data, 0) == (1, 2 + extra)
            assert varint.decode_deltas(data, 0, 2, 0) == (array("q", [1, 2]), len(data))


@pytest.mark.parametrize("sized", ["keys", "steps", "values", "frames"])
@pytest.mark.parametrize("lie", [-1, 1])
def test_a_block_with_a_wrong_size_is_refused_in_every_array(sized: str, lie: int) -> None:
    def one(name: str, item: bytes) -> bytes:
        return block([item], True, len(item) + (lie if name == sized else 0)) + b"\x00"

    step = varint.encode_long(5000)
    frame = one("keys", avro_string("kk")) + one("steps", step) * 2 + one("values", b"\x00" * 8) + b"\x00\x00\x00"
    with pytest.raises(BadRecord) as caught:
        metrics_codec.decode(avro_string("r") + one("frames", frame))
    assert caught.value.reason is Reason.BODY


def test_many_small_blocks_cost_no_more_than_linear_time() -> None:
    def seconds(blocks: int) -> float:
        body = avro_string("r") + b"\x02\x00" + b"\x02\x02" * blocks + b"\x00"
        body += b"\x02\x02" * blocks + b"\x00" + b"\x00\x00\x00\x00" + b"\x00"
        begun = time.process_time()
        assert metrics_codec.decode(body).frames[0].rows == blocks
        return time.process_time() - begun

    seconds(1000)
    assert seconds(64_000) < 64 * max(seconds(4_000), 0.001)


def test_the_key_cache_is_bounded_by_memory_and_forgets_the_least_recent() -> None:
    cache: BoundedCache[str, int] = BoundedCache(10)
    for number, name in enumerate("abc"):
        cache.put(name, number, 3)
    assert cache.get("a") == 0
    cache.put("d", 3, 4)
    assert [cache.get(name) for name in "abcd"] == [0, None, 2, 3]
    cache.put("too large", 9, 11)
    assert [cache.get(name) for name in ("a", "too large")] == [None, None]


def test_keys_read_again_from_the_cache_are_the_same_keys() -> None:
    event = MetricsLogged("r", (frame_of([1], "cached-key"),))
    body = metrics_codec.encode(event)
    first, second = metrics_codec.decode(body), metrics_codec.decode(body)
    assert first.frames[0].keys is second.frames[0].keys
    assert metrics_codec.encode(second) == body


BAD_FRAMES = {
    "a key twice": Frame(("a", "a"), array("q"), array("q"), array("d")),
    "an empty key": Frame(("",), array("q"), array("q"), array("d")),
    "a long key": Frame(("a" * 251,), array("q"), array("q"), array("d")),
    "NUL in a key": Frame(("a\x00",), array("q"), array("q"), array("d")),
    "NUL in the model id": Frame((), array("q"), array("q"), array("d"), model_id="\x00"),
    "a long data set name": Frame((), array("q"), array("q"), array("d"), dataset_name="a" * 501),
    "a long digest": Frame((), array("q"), array("q"), array("d"), dataset_digest="a" * 251),
    "a time too few": Frame(("a",), array("q", [1]), array("q"), array("d", [1.0])),
    "a value too few": Frame(("a",), array("q", [1]), array("q", [1]), array("d")),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_what_the_codec_would_refuse_to_read_it_refuses_to_write(name: str) -> None:
    event = MetricsLogged("r", (BAD_FRAMES[name],))
    with pytest.raises(BadRecord) as caught:
        metrics_codec.decode(fastavro_bytes(event))
    assert caught.value.reason is Reason.ABSURD
    for _ in range(2):  # The second time, nothing bad may come from the cache.
        with pytest.raises(BadEvent):
            metrics_codec.encode(event)
    with pytest.raises(BadEvent):
        metrics_codec.check_frame(BAD_FRAMES[name])


@pytest.mark.parametrize("run_id", ["", "a\n", "a b", "-a", "a" * 257, "a\x00"])
def test_a_run_id_that_runs_could_not_have_is_refused(run_id: str) -> None:
    event = MetricsLogged(run_id, ())
    with pytest.raises(BadRecord) as caught:
        metrics_codec.decode(fastavro_bytes(event))
    assert caught.value.reason is Reason.ABSURD
    with pytest.raises(BadEvent, match="run_id"):
        metrics_codec.encode(event)


def test_a_lone_surrogate_is_refused_by_name() -> None:
    for frame in (frame_of([1], "\ud800"), Frame((), array("q"), array("q"), array("d"), model_id="\ud800")):
        with pytest.raises(BadEvent, match="surrogate"):
            metrics_codec.encode(MetricsLogged("r", (frame,)))


def test_the_cache_of_key_lists_keeps_its_bound_when_an_entry_is_put_twice_and_threads_share_it() -> None:
    cache: BoundedCache[int, int] = BoundedCache(10)
    for _ in range(100):
        cache.put(1, 1, 4)
    assert (cache._cost, cache.get(1)) == (4, 1)

    def use(seed: int) -> None:
        rng = Random(seed)
        for _ in range(20_000):
            key = rng.randrange(6)
            if cache.get(key) is None:
                cache.put(key, key, 4)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    assert cache._cost == 4 * len(cache._entries) <= 10
