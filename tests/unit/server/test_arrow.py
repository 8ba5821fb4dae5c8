"""Arrow streams as pyarrow reads them: every value of every column, whatever the texts and the cuts into batches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from runfold_projections.series.full_history import SourceHistory
from runfold_server.native.series.arrow import END, Column, Type, batch, dictionary, schema
from runfold_server.native.series.history import ArrowForm, JsonForm

int64 = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rows = st.lists(st.tuples(int64, int64, st.floats()), min_size=1, max_size=8)
sources = st.lists(
    st.tuples(st.sampled_from(["r1", "r2"]), texts, texts, st.integers(-1, 2**31 - 1), rows),
    max_size=8,
    unique_by=lambda source: source[:4],
)


def source_of(named: tuple[str, str, str, int, list[tuple[int, int, float]]]) -> SourceHistory:
    run_id, key, attempt, rank, points = named
    steps, times, values = zip(*points, strict=True)
    return SourceHistory(
        run_id,
        key,
        attempt,
        rank,
        7,
        np.array(steps, np.int64),
        np.array(times, np.int64),
        np.array(values, np.float64),
    )


@given(sources, st.dictionaries(texts, texts, max_size=3))
def test_pyarrow_reads_every_point_of_every_source(
    given_sources: list[tuple[str, str, str, int, list[tuple[int, int, float]]]], metadata: dict[str, str]
) -> None:
    keys = list(dict.fromkeys(key for _, key, _, _, _ in given_sources))
    form = ArrowForm(["r1", "r2"], keys)
    body = [part for one in given_sources for part in form.add(source_of(one))]
    body += form.end()
    table = pa.ipc.open_stream(form.front(metadata) + b"".join(body)).read_all()
    table.validate(full=True)
    assert {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()} == {
        f"runfold.{name}": value for name, value in metadata.items()
    }
    assert table.schema.field("time").type == pa.timestamp("ms", "UTC")
    found = list(
        zip(
            *(table[name].to_pylist() for name in ("run_id", "key", "attempt", "rank", "branch", "step")),
            table["time"].cast(pa.int64()).to_pylist(),
            map(repr, table["value"].to_pylist()),
            strict=True,
        )
    )
    assert found == [
        (run, key, attempt, rank, 7, step, time, repr(value))
        for run, key, attempt, rank, points in given_sources
        for step, time, value in points
    ]


def test_large_sources_are_cut_into_batches_and_small_ones_put_together() -> None:
    form = ArrowForm(["r"], ["k"])
    body: list[Any] = []
    for rank in range(3000):
        n = 200_000 if rank == 7 else 10
        body += form.add(SourceHistory("r", "k", "", rank, 0, np.arange(n), np.arange(n), np.arange(n, dtype=float)))
    reader = pa.ipc.open_stream(form.front({}) + b"".join([*body, *form.end()]))
    sizes = [batch.num_rows for batch in reader]
    assert sum(sizes) == 200_000 + 2999 * 10
    assert len(sizes) <= 5
    assert max(sizes) < 2 * 65_536


def test_an_empty_table_and_one_without_texts_are_streams_too() -> None:
    columns = [Column("a", Type.INT64)]
    table = pa.ipc.open_stream(schema(columns, {}) + batch(columns, [np.arange(3)]) + END).read_all()
    assert table.to_pydict() == {"a": [0, 1, 2]}
    columns = [Column("t", Type.TEXT)]
    stream = schema(columns, {}) + dictionary(0, ["ä", ""]) + batch(columns, [np.array([1, 0, 1])]) + END
    assert pa.ipc.open_stream(stream).read_all()["t"].to_pylist() == ["", "ä", ""]
    form = ArrowForm([], [])
    assert pa.ipc.open_stream(form.front({}) + b"".join(form.end())).read_all().num_rows == 0


def test_json_has_the_same_points_with_texts_for_what_is_not_finite() -> None:
    import json

    form = JsonForm()
    body = [
        *form.add(SourceHistory("r", 'k"', "", -1, 0, np.array([1, 2]), np.array([3, 4]), np.array([0.5, math.nan]))),
        *form.add(SourceHistory("r", "l", "a", 0, 3, np.array([1]), np.array([3]), np.array([-math.inf]))),
        *form.end(),
    ]
    assert json.loads(form.front({"positions": {}}) + b"".join(body)) == {
        "positions": {},
        "series": [
            {
                "run_id": "r",
                "metric": 'k"',
                "attempt": "",
                "rank": -1,
                "branch": 0,
                "steps": [1, 2],
                "times": [3, 4],
                "values": [0.5, "NaN"],
            },
            {
                "run_id": "r",
                "metric": "l",
                "attempt": "a",
                "rank": 0,
                "branch": 3,
                "steps": [1],
                "times": [3],
                "values": ["-Infinity"],
            },
        ],
    }
