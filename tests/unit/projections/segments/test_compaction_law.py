"""Packs by key hold every point of the frames they were built from, and read one key as if all were read."""

import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runfold_projections.segments import compacted_builder
from runfold_projections.segments.compacted import CompactedSegment
from runfold_projections.segments.compacted_builder import NewSegment, build_segments
from runfold_schemas.events.frames import Frame

Cell = tuple[str, int, int, bytes, str | None]
laws = settings(suppress_health_check=[HealthCheck.too_slow])

whole = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)
doubles = st.integers(0, 2**64 - 1).map(lambda n: struct.pack("<Q", n)) | st.floats().map(
    lambda x: struct.pack("<d", x)
)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    keys = draw(st.lists(st.sampled_from(["a", "b", "é", "z/1", "\U0001f600", "￿"]), unique=True, max_size=4))
    rows = draw(st.integers(0, 9))
    values = array("d")
    values.frombytes(b"".join(draw(st.lists(doubles, min_size=rows * len(keys), max_size=rows * len(keys)))))
    counts = st.lists(whole, min_size=rows, max_size=rows)
    context = draw(st.none() | st.sampled_from(["m-1", "m-2"]))
    return Frame(tuple(keys), array("q", draw(counts)), array("q", draw(counts)), values, context)


def cells(of: Iterable[Frame]) -> Counter[Cell]:
    return Counter(
        (key, frame.steps[row], frame.times[row], struct.pack("<d", value), frame.model_id)
        for frame in of
        for (row, key), value in zip(product(range(frame.rows), frame.keys), frame.values, strict=True)
    )


def unpacked(packs: Sequence[NewSegment]) -> Counter[Cell]:
    return cells(frame for pack in packs for frame in CompactedSegment.from_data(pack.head, pack.data).frames())


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few keys are several packs, a few values several chunks, and both forms occur."""
    monkeypatch.setattr(compacted_builder, "MOST_KEYS", 3)
    monkeypatch.setattr(compacted_builder, "CHUNK_BYTES", 48)
    monkeypatch.setattr(compacted_builder, "LEAST_GRID", 6)


@laws
@given(st.lists(frames(), max_size=8))
def test_packs_hold_every_point_and_cover_their_keys_in_order(logged: list[Frame]) -> None:
    found = build_segments(logged)
    assert unpacked(found) == cells(logged)
    assert sum(pack.points for pack in found) == sum(len(frame.values) for frame in logged)
    bounds = [bound for pack in found for bound in (pack.first_key, pack.last_key)]
    assert bounds == sorted(bounds)


@laws
@given(st.lists(frames(), max_size=8))
def test_one_key_is_read_as_if_all_were(logged: list[Frame]) -> None:
    opened = [CompactedSegment.from_data(pack.head, pack.data) for pack in build_segments(logged)]
    for key in ("a", "é", "\U0001f600", "absent"):
        found: Counter[tuple[int, int, bytes]] = Counter()
        for pack in opened:
            pieces = list(pack.column(key))
            assert bool(pieces) == (key in pack.keys)
            for steps, times, values in pieces:
                found.update(zip(steps.tolist(), times.tolist(), [struct.pack("<d", v) for v in values], strict=True))
        assert found == Counter({cell[1:4]: n for cell, n in by_point(logged, key).items()})


def by_point(logged: list[Frame], key: str) -> Counter[tuple[str, int, int, bytes]]:
    return Counter(cell[:4] for cell in cells(logged).elements() if cell[0] == key)


@laws
@given(st.lists(frames(), max_size=5), st.lists(frames(), max_size=5))
def test_packs_may_be_built_from_packs(first: list[Frame], second: list[Frame]) -> None:
    again = [
        frame for pack in build_segments(first) for frame in CompactedSegment.from_data(pack.head, pack.data).frames()
    ]
    assert unpacked(build_segments([*again, *second])) == cells([*first, *second])


def test_noise_takes_eight_bytes_a_point_and_what_began_as_float32_five(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    rng = np.random.default_rng(1)
    for numbers, most in ((rng.normal(size=400_000), 8.1), (rng.normal(size=400_000).astype(np.float32), 5.0)):
        for keys, rows in ((1, 400_000), (100, 4_000), (9_500, 42)):
            values = array("d", numbers[: keys * rows].astype(np.float64).tobytes())
            names = tuple(f"metrics/layer_{n:05}/gradient_norm_of_weights" for n in range(keys))
            frame = Frame(names, array("q", range(rows)), array("q", range(0, rows * 25_000, 25_000)), values)
            found = build_segments([frame])
            assert sum(len(pack.data) for pack in found) / (keys * rows) <= most, (keys, rows)
