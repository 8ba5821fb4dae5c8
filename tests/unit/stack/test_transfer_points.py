"""Points to Parquet and back: the same points, whatever rows and frames they came in."""

from array import array
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runfold_projections.transfer.runs import PointsPiece
from runfold_schemas.events.frames import Frame
from runfold_stack.transfer import points as module
from runfold_stack.transfer.events import RunPoints
from runfold_stack.transfer.points import PointsFile, read_pieces

INT64 = st.integers(-(2**63), 2**63 - 1)
FEW = st.integers(0, 2)
TEXTS = st.none() | st.sampled_from(["", "m", "ü"])


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    keys = tuple(draw(st.lists(st.sampled_from(["a", "b", "c", "ü"]), unique=True, max_size=4)))
    rows = draw(st.integers(0, 4))
    numbers = st.lists(FEW | INT64, min_size=rows, max_size=rows)
    values = draw(st.lists(st.floats(), min_size=rows * len(keys), max_size=rows * len(keys)))
    return Frame(
        keys,
        array("q", draw(numbers)),
        array("q", draw(numbers)),
        array("d", values),
        draw(TEXTS),
        draw(TEXTS),
        draw(TEXTS),
    )


PIECES = st.lists(
    st.builds(
        PointsPiece,
        st.sampled_from(["r1", "r2"]),
        st.integers(0, 2),
        st.sampled_from(["", "t1"]),
        st.none() | st.sampled_from([0, 1, 2**31 - 1]),
        frames(),
    ),
    max_size=6,
)


def points_of(pieces: list[PointsPiece]) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for run_id, branch, attempt, rank, frame in pieces:
        context = map(repr, (frame.model_id, frame.dataset_name, frame.dataset_digest))
        origin = (run_id, branch, attempt, -1 if rank is None else rank, *context)
        for at, value in enumerate(frame.values):
            row, column = divmod(at, len(frame.keys))
            found.append((*origin, frame.keys[column], frame.steps[row], frame.times[row], value.hex()))
    return found


def through_a_file(path: Path, pieces: list[PointsPiece]) -> list[PointsPiece]:
    with PointsFile(path) as file:
        for piece in pieces:
            file.add(piece)
    assert pq.ParquetFile(path).metadata.num_rows == file.rows
    return list(read_pieces(pq.ParquetFile(path)))


@settings(max_examples=200, deadline=None)
@given(PIECES, st.integers(1, 8))
def test_what_is_read_back_are_the_same_points_as_valid_frames(pieces: list[PointsPiece], at_once: int) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_AT_ONCE", at_once)
        back = through_a_file(Path(folder) / "points.parquet", pieces)
    assert sorted(points_of(back)) == sorted(points_of(pieces))
    for piece in back:
        assert len(set(piece.frame.keys)) == len(piece.frame.keys)
        assert len(piece.frame.values) == piece.frame.rows * len(piece.frame.keys) > 0


def test_rows_with_equal_keys_become_one_frame(tmp_path: Path) -> None:
    frame = Frame(("a", "b"), array("q", range(100)), array("q", range(100)), array("d", range(200)))
    narrow = Frame(("c",), array("q", range(100)), array("q", range(100)), array("d", range(100)))
    back = through_a_file(tmp_path / "points.parquet", [PointsPiece("r", 0, "", None, one) for one in (frame, narrow)])
    assert [piece.frame for piece in back] == [frame, narrow]


def test_events_of_points_have_the_same_ids_and_sequences_whenever_they_are_made() -> None:
    frame = Frame(("a",), array("q", range(200_000)), array("q", range(200_000)), array("d", range(200_000)))
    first, again = (RunPoints("export", "r", "t", 1).write([frame]) for _ in range(2))
    other = RunPoints("other export", "r", "t", 1).write([frame])

    def identity(records: list) -> list[dict[str, bytes]]:  # type: ignore[type-arg]
        return [{name: value for name, value in record.headers if name != "ce_time"} for record, _ in records]

    assert len(first) > 2
    assert identity(first) == identity(again)
    assert [record.value for record, _ in first] == [record.value for record, _ in again]
    assert not {one["ce_source"] for one in identity(first)} & {one["ce_source"] for one in identity(other)}
