"""What the tests of the schemas room share: generated frames, Avro pieces by hand, golden records."""

import json
import struct
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from runfold_schemas.codec import varint
from runfold_schemas.codec.varint import MASK64, encode_long
from runfold_schemas.events.base import RUN_ID_PATTERN
from runfold_schemas.events.frames import Frame
from runfold_schemas.events.metrics import MetricsLogged

GOLDEN = Path(__file__).parents[2] / "golden" / "events"
INT64S = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(-70, 70) | st.integers(-9000, 9000)

quick = settings(max_examples=60, deadline=None)
"""For laws over cheap values; a deadline would only measure how busy the machine is."""

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
keys = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=12)
run_ids = st.from_regex(RUN_ID_PATTERN.removesuffix("$"), fullmatch=True)
doubles = st.integers(0, MASK64).map(lambda bits: float(struct.unpack("<d", struct.pack("<Q", bits))[0])) | st.floats()


@st.composite
def frames(draw: st.DrawFn, most_rows: int = 12) -> Frame:
    names = tuple(draw(st.lists(keys, max_size=4, unique=True)))
    rows = draw(st.integers(0, most_rows))
    numbers = st.one_of(SMALL, INT64S)
    return Frame(
        names,
        array("q", draw(st.lists(numbers, min_size=rows, max_size=rows))),
        array("q", draw(st.lists(numbers, min_size=rows, max_size=rows))),
        array("d", draw(st.lists(doubles, min_size=rows * len(names), max_size=rows * len(names)))),
        *(draw(st.none() | texts) for _ in range(3)),
    )


metrics = st.builds(MetricsLogged, run_ids, st.lists(frames(), max_size=3).map(tuple))


def same(one: MetricsLogged, other: MetricsLogged) -> bool:
    """Equality by bits: NaN equals the same NaN, 0.0 differs from -0.0."""
    return _bits(one) == _bits(other)


def _bits(event: MetricsLogged) -> object:
    return event.run_id, [
        (f.keys, f.steps, f.times, f.values.tobytes(), f.model_id, f.dataset_name, f.dataset_digest)
        for f in event.frames
    ]


@contextmanager
def number_path(kind: str) -> Iterator[None]:
    """Decode numbers with NumPy from the first one on, or as if NumPy were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if kind == "numpy":
            import_module("numpy")
            patch.setattr(varint, "_VECTOR_FROM", 1)
        else:
            patch.delitem(sys.modules, "numpy", raising=False)
        yield


def deltas(values: "array[int]") -> list[int]:
    """What the schema's `*_deltas` fields hold, computed without the codec."""
    out, before = [], 0
    for value in values:
        out.append((value - before + 2**63) % 2**64 - 2**63)
        before = value
    return out


def as_fields(event: MetricsLogged) -> dict[str, Any]:
    """The event as fastavro takes it."""
    return {
        "run_id": event.run_id,
        "frames": [
            {
                "keys": list(f.keys),
                "step_deltas": deltas(f.steps),
                "time_deltas": deltas(f.times),
                "values": list(f.values),
                "model_id": f.model_id,
                "dataset_name": f.dataset_name,
                "dataset_digest": f.dataset_digest,
            }
            for f in event.frames
        ],
    }


def avro_string(text: str) -> bytes:
    data = text.encode()
    return encode_long(len(data)) + data


def block(items: list[bytes], sized: bool, size: int | None = None) -> bytes:
    """One block of an Avro array; `size` is a lie to tell about its length."""
    body = b"".join(items)
    if not sized:
        return encode_long(len(items)) + body
    return encode_long(-len(items)) + encode_long(len(body) if size is None else size) + body


def goldens() -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(GOLDEN.glob("*.json"))]
