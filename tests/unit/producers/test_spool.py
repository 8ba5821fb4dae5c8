"""The spool on disk: it is readable after truncation and damage, and has one owner at a time."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runfold.errors import SdkError
from runfold.spool import layout
from runfold.spool.frames import MAGIC, FrameKind, SpoolFrame, next_whole, pack, scan
from runfold.spool.reader import SpoolReader
from runfold.spool.writer import SpoolWriter

FRAMES = st.lists(
    st.tuples(st.sampled_from(FrameKind), st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=60)), max_size=12
)
quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def packed(frames: list[tuple[FrameKind, int, bytes]]) -> list[bytes]:
    return [pack(*frame) for frame in frames]


def plain(frames: list[SpoolFrame]) -> list[tuple[FrameKind, int, bytes]]:
    return [(frame.kind, frame.points, frame.payload) for frame in frames]


@given(FRAMES, st.integers(0, 2000))
def test_frames_round_trip_and_a_cut_takes_only_what_it_cuts(
    frames: list[tuple[FrameKind, int, bytes]], cut: int
) -> None:
    data = b"".join(packed(frames))
    assert plain(list(scan(data))) == frames
    ends = [frame.end for frame in scan(data)]
    whole = plain(list(scan(data[:cut])))
    assert whole == frames[: sum(end <= cut for end in ends)]


@given(FRAMES.filter(len), st.data())
def test_a_changed_byte_is_noticed_and_what_follows_is_found(
    frames: list[tuple[FrameKind, int, bytes]], data: st.DataObject
) -> None:
    parts = packed(frames)
    hurt = data.draw(st.integers(0, len(parts) - 1))
    at = data.draw(st.integers(0, len(parts[hurt]) - 1))
    broken = bytearray(parts[hurt])
    broken[at] ^= data.draw(st.integers(1, 255))
    whole = b"".join([*parts[:hurt], bytes(broken), *parts[hurt + 1 :]])
    found = list(scan(whole))
    assert plain(found)[:hurt] == frames[:hurt]
    if len(found) == hurt:
        start = next_whole(whole, sum(map(len, parts[:hurt])))
        rest = plain(list(scan(whole, start))) if start is not None else []
        assert rest == frames[hurt + 1 :]


def read_all(directory: Path, most: int = 1) -> list[tuple[FrameKind, int, bytes]]:
    """Reads like a sender: a part, its acknowledgement, the next part, each time with a new reader."""
    got: list[tuple[FrameKind, int, bytes]] = []
    while found := SpoolReader(directory).read(most):
        got += plain([frame for frame, _ in found])
        SpoolReader(directory).acknowledge(found[-1][1])
    return got


@given(FRAMES, st.integers(1, 300), st.integers(1, 400), st.lists(st.integers(1, 4), max_size=6))
@quick
def test_what_is_appended_is_read_once_in_order_and_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    frames: list[tuple[FrameKind, int, bytes]],
    segment: int,
    most: int,
    parts: list[int],
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    writer = SpoolWriter(directory, segment_bytes=segment)
    waiting = packed(frames)
    for size in parts:
        writer.append(waiting[:size])
        waiting = waiting[size:]
    writer.append(waiting)
    points = sum(points for _, points, _ in frames)
    assert SpoolReader(directory).count() == (points, sum(points == 0 for _, points, _ in frames))
    assert writer.size == sum(path.stat().st_size for path in directory.iterdir())
    assert read_all(directory, most) == frames
    reader = SpoolReader(directory)
    reader.finish()
    assert not directory.exists()


def test_acknowledged_segments_free_their_space_while_the_owner_writes_on(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, segment_bytes=200)
    freed: list[int] = []

    def forget(number: int) -> None:
        freed.append(number)
        writer.forget(number)

    reader = SpoolReader(tmp_path, live=True, freed=forget)
    for _ in range(5):
        writer.append([pack(FrameKind.FACT, 0, b"x" * 50)] * 10)
        found = reader.read(10**6)
        assert len(found) == 10
        assert reader.read(1)[0] == found[0]
        reader.acknowledge(found[-1][1])
        assert reader.acked == writer.end
        assert writer.size <= 300
    assert freed == sorted(freed)
    assert len(freed) > 10


def test_a_tail_that_is_cut_off_is_not_there(tmp_path: Path) -> None:
    SpoolWriter(tmp_path).append([pack(FrameKind.FACT, 0, b"one"), pack(FrameKind.FACT, 0, b"two")])
    path = layout.segment_path(tmp_path, 0)
    data = path.read_bytes()
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        reader = SpoolReader(tmp_path)
        payloads = [frame.payload for frame, _ in reader.read(10**6)]
        assert payloads == [b"one", b"two"][: len(payloads)]
        assert len(payloads) == (0 if cut < len(MAGIC) + 16 else 1)
        assert reader.damages == []


def test_damage_between_frames_is_named_and_kept_and_costs_no_other_frame(tmp_path: Path) -> None:
    SpoolWriter(tmp_path, segment_bytes=150).append([pack(FrameKind.FACT, 0, b"%d" % n * 20) for n in range(9)])
    path = layout.segment_path(tmp_path, 0)
    data = bytearray(path.read_bytes())
    data[len(MAGIC) + 40] ^= 1
    path.write_bytes(data)
    reader = SpoolReader(tmp_path)
    found = reader.read(10**6)
    assert [frame.payload[:1] for frame, _ in found] == [b"%d" % n for n in range(9) if n != 1]
    (damage,) = reader.damages
    assert str(path) in str(damage)
    assert "left alone" in str(damage)
    reader.acknowledge(found[-1][1])
    reader.finish()
    assert [path.read_bytes() for path in tmp_path.glob("*.damaged")] == [bytes(data)]


def test_a_file_that_is_no_segment_is_named_and_left_alone(tmp_path: Path) -> None:
    SpoolWriter(tmp_path).append([pack(FrameKind.FACT, 0, b"one")])
    layout.segment_path(tmp_path, 1).write_bytes(b"these are my own notes, do not touch")
    (tmp_path / "notes.txt").write_text("mine")
    reader = SpoolReader(tmp_path)
    found = reader.read(10**6)
    reader.acknowledge(found[-1][1])
    assert [frame.payload for frame, _ in found] == [b"one"]
    assert len(reader.damages) == 1
    reader.finish()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "acked") == [
        "00000001.damaged",
        "notes.txt",
    ]


@pytest.mark.parametrize("text", [b"", b"garbage", b"0000000001 000000000099 00000000\n", b"\xff\xff"])
def test_an_unreadable_note_of_what_is_acknowledged_means_all_is_sent_again(tmp_path: Path, text: bytes) -> None:
    SpoolWriter(tmp_path).append([pack(FrameKind.FACT, 0, b"one")])
    (tmp_path / layout.ACKED).write_bytes(text)
    assert [frame.payload for frame, _ in SpoolReader(tmp_path).read(1)] == [b"one"]


def test_a_disk_that_takes_only_a_part_leaves_whole_frames_and_the_rest_can_be_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # tests/e2e fills a real disk; this test fails at every possible point.
    frames = [pack(FrameKind.FACT, 0, b"%d" % n * 30) for n in range(6)]
    real = os.pwrite
    for room in range(0, 400, 7):
        directory = tmp_path / str(room)
        directory.mkdir()
        writer = SpoolWriter(directory, segment_bytes=120)
        left = [room]

        def pwrite(descriptor: int, data: memoryview, at: int, left: list[int] = left) -> int:
            if left[0] == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = real(descriptor, bytes(data[: left[0]]), at)
            left[0] -= written
            return written

        monkeypatch.setattr(os, "pwrite", pwrite)
        try:
            done = writer.append(frames)
        except OSError:
            done = 0
        monkeypatch.setattr(os, "pwrite", real)
        assert [frame.payload for frame, _ in SpoolReader(directory).read(10**6)] == [
            b"%d" % n * 30 for n in range(done)
        ]
        assert writer.append(frames[done:]) == 6 - done
        assert len(read_all(directory)) == 6


def about(**changes: object) -> layout.SpoolInfo:
    fields: dict[str, object] = {
        "run_id": "r", "experiment": "e", "uri": "", "node": "n/ö", "pid": 1, "created_ms": 0,
    }  # fmt: skip
    return layout.SpoolInfo(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_spool_has_one_owner_at_a_time_and_its_end_needs_no_clean_death(tmp_path: Path) -> None:
    directory, lock = layout.create_spool(tmp_path, about(), "w")
    assert layout.SpoolLock.acquire(directory) is None
    child = os.fork()
    if child == 0:
        os._exit(0 if layout.SpoolLock.acquire(directory) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    lock.release()
    again = layout.SpoolLock.acquire(directory)
    assert again is not None
    again.release()
    assert list(layout.spools(tmp_path)) == [directory] == list(layout.spools(directory))
    assert layout.SpoolInfo.read(directory) == about()


def test_a_directory_that_a_dead_process_had_just_begun_goes_and_a_living_one_s_stays(tmp_path: Path) -> None:
    directory, lock = layout.create_spool(tmp_path, about(), "w")
    for name in ("dead", "alive", "young"):
        (directory.parent / f".new-{name}").mkdir()
    living = layout.SpoolLock.acquire(directory.parent / ".new-alive", create=True)
    assert living is not None
    for name in ("dead", "alive"):
        os.utime(directory.parent / f".new-{name}", (0, 0))
    layout.remove_abandoned(tmp_path / "n__")
    assert sorted(path.name for path in directory.parent.iterdir()) == [".new-alive", ".new-young", "w"]
    living.release()
    lock.release()


def test_a_spool_of_another_release_is_refused_by_name(tmp_path: Path) -> None:
    directory, lock = layout.create_spool(tmp_path, about(format=2), "w")
    with pytest.raises(SdkError, match="format 2 is not supported; this release reads format 1"):
        layout.SpoolInfo.read(directory)
    (directory / layout.ABOUT).write_text("[]")
    with pytest.raises(SdkError, match="can't be read"):
        layout.SpoolInfo.read(directory)
    lock.release()
