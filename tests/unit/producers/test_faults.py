"""A slow, absent or disconnected server: nothing is lost or reordered, and nothing blocks."""

from __future__ import annotations

import dis
import gc
import struct
import sys
import threading
import time
import tracemalloc
from array import array
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runfold
from runfold.pipeline.buffer import Buffer, Rows
from runfold.pipeline.flusher import FlushThread
from runfold.pipeline.rows import RowReader
from runfold_schemas.codec.batch import MAX_BATCH_BYTES, decode_batch
from runfold_schemas.events.frames import Frame, Point
from runfold_schemas.events.metrics import MetricsLogged, RunRewound
from runfold_schemas.events.runs import RunUpdated
from tests.support.doubles.event_server import EventServer, Fault, event_server


def test_what_is_sent_again_is_the_same_bytes_and_counts_once(server: EventServer) -> None:
    server.faults = [Fault(503), Fault(drop=True), Fault(429), Fault(200), Fault(drop=True), Fault(500)]
    with runfold.run() as run:
        run.flush()
        for step in range(10):
            run.log({"x": step})
        run.flush()
        run.set_tags({"a": 1})
    bodies = [post.body for post in server.posts]
    for failed in (0, 1, 2, 4, 5):
        assert bodies[failed] == bodies[failed + 1]
    assert bodies[3] != bodies[4]
    received, folded = server.received(), server.folded()
    assert len(received) == len(folded) + 2
    assert server.rows() == [(("x",), step, [float(step)]) for step in range(10)]
    assert [type(e) for e in server.events()][-1] is RunUpdated


def test_a_server_that_says_when_is_asked_then_and_not_before(server: EventServer) -> None:
    server.faults = [Fault(503, {"Retry-After": "1"}), Fault(429, {"Retry-After": "0"})]
    with runfold.run():
        pass
    first, second, third = (post.at for post in server.posts[:3])
    assert 1.0 <= second - first < 5
    assert third - second < 1


def test_a_server_that_goes_and_comes_back_has_everything_in_order(caplog: pytest.LogCaptureFixture) -> None:
    with event_server() as state:
        run = runfold.run(tracking_uri=state.uri)
        run.log({"x": 0})
        run.flush()
        port = int(state.uri.rpartition(":")[2])
    # The handler thread of the old connection still runs and would answer.
    state.faults = [Fault(drop=True)]
    for step in range(1, 5000):
        run.log({"x": step, "y": step} if step % 7 == 0 else {"x": step})
    deadline = time.monotonic() + 20
    while "retrying" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with event_server(port, state):
        run.finish()
    assert [(step, values[0]) for _, step, values in state.rows()] == [(s, float(s)) for s in range(5000)]
    assert caplog.text.count("retrying") == 1
    assert "accepts events again" in caplog.text


def test_a_full_spool_refuses_counts_and_warns_in_time_and_the_training_loop_never_waits(
    server: EventServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RUNFOLD_SPOOL_MB", "1")
    run = runfold.run()
    run.flush()
    server.blocked.clear()
    for step in range(20_000):
        run.log({f"key {k}": step for k in range(10)}, step=step)
        if step % 100 == 0:
            run.set_tags({"step": step})
            run._writer._flusher.save()
    warned = caplog.text.index("of 1 MB (RUNFOLD_SPOOL_MB). When they are full, new points are dropped")
    assert warned < caplog.text.index("has no room")
    assert run._writer._buffer.size + on_disk(run.spool) <= 1024 * 1024
    assert run.refused > 0
    assert caplog.text.count("has no room") == 1
    server.blocked.set()
    run.flush()
    run.log({"after": 1})
    run.finish()
    rows = server.rows()
    assert sum(len(values) for _, _, values in rows) + run.refused == 200_001
    steps = [step for _, step, _ in rows]
    assert steps == sorted(steps)
    assert rows[-1][0] == ("after",)
    assert f"dropped {run.refused} points and " in caplog.text
    assert server.of(RunUpdated)[0].status == "FINISHED"


def test_a_spool_with_little_room_refuses_nothing_that_is_sent_in_time(
    server: EventServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNFOLD_SPOOL_MB", "0.05")
    with runfold.run() as run:
        for step in range(20_000):
            run.log({"x": step})
            if step % 100 == 99:
                run.flush()
    assert run.refused == 0
    assert len(server.rows()) == 20_000


def test_a_full_spool_can_be_waited_for_and_then_nothing_is_refused(
    server: EventServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNFOLD_SPOOL_MB", "1")
    monkeypatch.setenv("RUNFOLD_SPOOL_FULL", "block")
    with runfold.run() as run:
        run.flush()
        server.blocked.clear()
        threading.Timer(1.0, server.blocked.set).start()
        for step in range(20_000):
            run.log({f"key {k}": step for k in range(10)}, step=step)
        assert server.blocked.is_set(), "the spool held everything: this shows nothing"
    assert run.refused == 0
    assert [step for _, step, _ in server.rows()] == [*range(20_000)]


def on_disk(spool: Path) -> int:
    return sum(path.stat().st_size for path in spool.glob("*.seg"))


@pytest.mark.parametrize("alternating", [False, True])
def test_the_buffer_takes_no_more_memory_than_it_counts(alternating: bool) -> None:
    most = 2 * 1024 * 1024
    reader = RowReader()
    gc.collect()
    tracemalloc.start()
    try:
        buffer = Buffer(most, 256 * 1024, 0.5)
        step = 0
        while buffer.add_row(*reader.read({f"{step % 2 if alternating else 0}": 1.0}), step):
            step += 1
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most * 0.9 < buffer.size <= most
    assert used < most * 1.25


def test_the_end_waits_no_longer_than_its_bound_and_says_what_was_lost(
    server: EventServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RUNFOLD_FINISH_TIMEOUT", "0.2")
    run = runfold.run()
    run.flush()
    server.blocked.clear()
    run.log({"x": 1, "y": 2})
    started = time.monotonic()
    run.finish()
    assert time.monotonic() - started < 5
    assert f"2 points and 1 facts of run {run.id} are kept in {run.spool}" in caplog.text
    server.blocked.set()


def test_a_slow_server_gets_larger_requests(server: EventServer) -> None:
    server.faults = [Fault(200), *[Fault(200, delay=0.3)] * 3]
    with runfold.run() as run:
        run.flush()
        run.log({"x": -1.0}, step=0)
        run._writer._flusher.save()
        for step in range(50_000):
            run.log({"x": step})
    assert len(server.rows()) == 50_001
    assert len(server.posts) < 10


def test_a_row_wider_than_an_event_and_a_request_is_cut_by_keys(server: EventServer) -> None:
    wide = {f"{'layer' * 40}/{k:06d}": k for k in range(60_000)}
    with runfold.run() as run:
        run.log(wide, step=7)
    rows = server.rows()
    assert {step for _, step, _ in rows} == {7}
    assert [key for keys, _, _ in rows for key in keys] == list(wide)
    assert [value for _, _, values in rows for value in values] == list(wide.values())
    assert sum(len(post.body) for post in server.posts) > MAX_BATCH_BYTES
    assert max(len(post.body) for post in server.posts) < MAX_BATCH_BYTES
    assert len(server.of(MetricsLogged)) > 20


def bits(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


ROWS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["a", "b", "long/κey", "d"]), st.floats(), min_size=1),
        st.none() | st.integers(-(2**63), 2**62),
    ),
    max_size=40,
)
FAULTS = st.lists(
    st.sampled_from([Fault(503, {"Retry-After": "0"}), Fault(200), Fault(drop=True), Fault(200)]), max_size=6
)


@given(rows=ROWS, faults=FAULTS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_rows_are_logged_they_arrive_in_order(
    server: EventServer, rows: list[tuple[dict[str, float], int | None]], faults: list[Fault]
) -> None:
    server.posts.clear()
    server.faults = list(faults)
    last = -1
    expected = []
    with runfold.run() as run:
        for n, (metrics, step) in enumerate(rows):
            run.log(metrics, step=step)
            last = last + 1 if step is None else step
            expected.append((tuple(metrics), last, bits([*metrics.values()])))
            if n % 16 == 5:
                run.set_tags({"n": n})
    assert [(keys, step, bits(values)) for keys, step, values in server.rows()] == expected
    for post in server.posts:
        assert len({record.topic for record in decode_batch(post.body)}) == 1


@given(rows=ROWS, cuts=st.sets(st.integers(0, 40)))
@settings(deadline=None)
def test_a_buffer_hands_out_what_was_put_in_whenever_it_is_taken(
    rows: list[tuple[dict[str, float], int | None]], cuts: set[int]
) -> None:
    buffer, reader = Buffer(10**9, 2000, 0.0), RowReader()
    got: list[tuple[tuple[str, ...], bytes]] = []

    def take() -> None:
        for entry in buffer.drain():
            frame = entry.frame() if isinstance(entry, Rows) else pytest.fail("no fact was put in")
            width = len(frame.keys)
            got.extend(
                (frame.keys, frame.values[r * width : (r + 1) * width].tobytes()) for r in range(len(frame.steps))
            )
        buffer.mark_saved()

    for n, (metrics, step) in enumerate(rows):
        buffer.add_row(*reader.read(metrics), step)
        if n in cuts:
            take()
    take()
    assert got == [(tuple(metrics), array("d", metrics.values()).tobytes()) for metrics, _ in rows]
    assert buffer.size == 0
    assert buffer.unsaved() == (0, 0)
    assert buffer.due() is None


SIGNALS_ARE_HEEDED_AFTER = ("CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD", "RESUME")
"""Operations after which the interpreter runs signal handlers."""


class CtrlC:
    """A context manager that raises KeyboardInterrupt at the n-th point of our code where signals are handled."""

    def __init__(self, place: int) -> None:
        self.left = place
        self._before: dict[FrameType, str] = {}

    def __enter__(self) -> None:
        sys.settrace(self._trace)

    def __exit__(self, *about: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if "/runfold/" not in frame.f_code.co_filename and not frame.f_code.co_filename.endswith("/threading.py"):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            heeded = self._before.get(frame) in SIGNALS_ARE_HEEDED_AFTER
            self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            self.left -= heeded
            if heeded and self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._trace


class Idle:
    """A flusher that has nothing to do."""

    def due(self) -> None:
        return None


def test_a_ctrl_c_anywhere_in_a_log_call_leaves_whole_rows_and_no_lock() -> None:
    flush_thread = FlushThread()
    flusher: Any = Idle()
    buffer, reader = Buffer(10**9, 200, 0.0, lambda: flush_thread.wake(flusher)), RowReader()
    kinds = [{"a": 0.0, "b": 0.5}, {"c": 1.0}]
    frames = []
    calls = whole = place = 0
    interrupted = True
    while interrupted:
        place += 1
        interrupted = False
        for kind in (0, 0, 1):
            buffer.add_row(*reader.read(kinds[kind]), None)
            calls += 1
            try:
                with CtrlC(place):
                    buffer.add_row(*reader.read(kinds[kind]), None)
                whole += 1
            except KeyboardInterrupt:
                interrupted = True
        if place % 4 == 0:
            frames += [entry.frame() for entry in buffer.drain() if isinstance(entry, Rows)]
            buffer.mark_saved()
    frames += [entry.frame() for entry in buffer.drain() if isinstance(entry, Rows)]
    assert place > 10
    for frame in frames:
        assert len(frame.times) == frame.rows
        assert frame.values == array("d", {2: [0.0, 0.5], 1: [1.0]}[len(frame.keys)] * frame.rows)
    assert calls + whole <= sum(frame.rows for frame in frames) <= 2 * calls


def test_a_ctrl_c_anywhere_in_a_save_loses_nothing_and_writes_nothing_under_two_identities(
    server: EventServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runfold.pipeline.flusher.FlushThread.wake", lambda self, flusher: None)
    run = runfold.run()
    run.save()
    place = rows = 0
    interrupted = True
    while interrupted:
        place += 1
        run.log({"x": rows})
        run.rewind(rows)
        rows += 1
        try:
            with CtrlC(place):
                run._writer._flusher._save()
            interrupted = False
        except KeyboardInterrupt:
            interrupted = True
    assert place > 10
    run.finish()
    assert server.rows() == [(("x",), step, [float(step)]) for step in range(rows)]
    assert [event.step for event in server.of(RunRewound)] == list(range(rows))


def test_a_block_that_can_not_be_encoded_costs_no_other_s_points(
    server: EventServer, caplog: pytest.LogCaptureFixture
) -> None:
    run = runfold.run()
    run.log({"x": 0})
    run._writer._buffer.add_frame(Frame(("y", "y"), array("q", [0]), array("q", [0]), array("d", [1, 2])))
    run.log({"x": 1})
    run.finish()
    assert server.rows() == [(("x",), 0, [0.0]), (("x",), 1, [1.0])]
    assert server.of(RunUpdated)
    assert "lost 2 points: frame: a key stands twice" in caplog.text


def test_points_of_which_one_can_not_be_stored_are_refused_as_a_whole(server: EventServer) -> None:
    run = runfold.run(mode="offline")
    points = [Point("x", 0.5, 0, 0), Point("x", 0.5, 1, 0, None, "data", None), Point("x", 0.5, 2, 0, None, "d" * 501)]
    with pytest.raises(ValueError, match=r"dataset_name .* 501 characters"):
        run._writer.add_points(points, RowReader())
    run.finish()
    assert run._writer._spool.points == 0
