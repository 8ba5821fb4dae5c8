"""Unacknowledged events: kept on disk, sent by a later process, and counted once, whatever was killed or copied."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import runfold
from runfold.pipeline.spool_sync import sync
from runfold.spool.frames import MAGIC, FrameKind, pack, scan
from runfold.spool.layout import spools
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.events.runs import ParamsLogged, RunCreated, RunUpdated
from tests.support.doubles.event_server import EventServer, Fault, event_server


def offline(steps: int = 10, **given: object) -> runfold.Run:
    with runfold.run("digits", params={"a": 1}, mode="offline", **given) as run:  # type: ignore[arg-type]
        for step in range(steps):
            run.log({"x": step})
    return run


def files(spool_dir: Path) -> list[Path]:
    return [path for path in spool_dir.rglob("*") if path.is_file()] if spool_dir.is_dir() else []


def test_offline_is_the_same_run_sent_later(server: EventServer, spool_dir: Path) -> None:
    run = offline()
    assert server.posts == []
    assert server.experiments == {}
    report = sync(spool_dir, server.uri)
    assert [type(event) for event in server.events()] == [RunCreated, ParamsLogged, MetricsLogged, RunUpdated]
    assert (report.sent, report.points, report.facts, report.left, report.unreadable) == ([run.id], 10, 3, {}, [])
    assert server.of(RunCreated)[0].experiment_id == 1
    assert server.of(RunCreated)[0].artifact_uri == f"s3://bucket/1/{run.id}/artifacts"
    assert server.rows() == [(("x",), step, [float(step)]) for step in range(10)]
    assert files(spool_dir) == []


def test_offline_needs_no_server_and_no_address(monkeypatch: pytest.MonkeyPatch, spool_dir: Path) -> None:
    monkeypatch.setenv("RUNFOLD_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("RUNFOLD_MODE", "offline")
    with runfold.run("never seen", name="n") as run:
        run.log({"x": 1})
        run.flush(timeout=5)
        assert run.experiment_id is None
    assert [path.parent.parent.name for path in spool_dir.rglob("about.json")] == [run.id]


def test_a_spool_that_is_sent_twice_from_two_machines_and_late_counts_once(
    server: EventServer, spool_dir: Path, tmp_path: Path
) -> None:
    run = offline(100)
    for copy in ("one", "two"):
        shutil.copytree(spool_dir, tmp_path / copy)
    server.faults = [Fault(200), Fault(drop=True), Fault(503, {"Retry-After": "0"})]
    for where in (tmp_path / "one", spool_dir, tmp_path / "two"):
        assert sync(where, server.uri).sent == [run.id]
        assert files(where) == []
    assert len(server.received()) > 3 * 4
    assert [type(event) for event in server.events()] == [RunCreated, ParamsLogged, MetricsLogged, RunUpdated]
    assert [values for _, _, values in server.rows()] == [[float(step)] for step in range(100)]


def test_a_creation_that_is_completed_twice_has_one_identity(
    server: EventServer, spool_dir: Path, tmp_path: Path
) -> None:
    offline()
    shutil.copytree(spool_dir, tmp_path / "copy")
    sync(spool_dir, server.uri)
    server.experiments["digits"] = {**server.experiments["digits"], "experiment_id": "77"}
    sync(tmp_path / "copy", server.uri)
    first, second = (got for got in server.received() if isinstance(got.event, RunCreated))
    assert first.event != second.event
    assert first.envelope == second.envelope


def test_the_next_run_on_the_node_sends_what_others_left(server: EventServer, spool_dir: Path) -> None:
    left = offline()
    with runfold.run("other") as run:
        wait_for(lambda: len(server.of(RunUpdated)) == 1, "what was left is sent")
    wait_for(lambda: files(spool_dir) == [], "nothing is left on disk")
    assert [event.run_id for event in server.of(RunCreated)] in ([run.id, left.id], [left.id, run.id])
    assert len(server.rows()) == 10


def test_what_was_meant_for_another_server_is_not_sent_by_the_way(server: EventServer, spool_dir: Path) -> None:
    kept = offline(tracking_uri="http://elsewhere:5000")
    free = offline()
    with runfold.run("other"):
        wait_for(lambda: len(server.of(RunUpdated)) == 1, "the other is sent")
    assert {event.run_id for event in server.of(RunUpdated)} >= {free.id}
    assert [path.parent.name for path in spools(spool_dir)] == [kept.id]
    assert sync(spool_dir, server.uri, use_recorded=False).sent == [kept.id]


def test_the_spool_of_a_living_process_that_sends_it_itself_is_left_to_it(server: EventServer, spool_dir: Path) -> None:
    with runfold.run("digits") as run:
        run.flush()
        server.blocked.clear()
        run.log({"x": 1})
        run.save()
        report = sync(spool_dir, server.uri)
        assert (report.busy, report.sent, report.live) == ([run.spool], [], [])
        server.blocked.set()
    assert sync(spool_dir, server.uri).sent == []


def test_an_offline_run_can_be_sent_while_it_goes_on_and_counts_once(server: EventServer, spool_dir: Path) -> None:
    with runfold.run("digits", mode="offline") as run:
        for step in range(3):
            run.log({"x": step})
            run.flush()
            report = sync(spool_dir, server.uri)
            assert (report.live, report.busy, report.left, report.unreadable) == ([run.id], [], {}, [])
            assert server.rows()[-1] == (("x",), step, [float(step)])
            assert [path.name for path in run.spool.parent.parent.iterdir()] == [run.id]
    assert sync(spool_dir, server.uri).sent == [run.id]
    assert [step for _, step, _ in server.rows()] == [0, 1, 2]
    assert list(spool_dir.rglob("*.seg")) == []


def test_what_could_not_be_sent_of_a_living_run_leaves_no_copy(spool_dir: Path) -> None:
    with runfold.run("digits", mode="offline") as run:
        run.flush()
        report = sync(spool_dir, "http://127.0.0.1:9", patience=0.3)
        assert list(report.left) == [run.spool]
        assert [path.name for path in run.spool.parent.parent.iterdir()] == [run.id]


def test_an_offline_run_says_at_its_end_where_its_data_lies(caplog: pytest.LogCaptureFixture) -> None:
    run = offline()
    told = [record for record in caplog.records if f"runfold sync {run.spool}" in record.getMessage()]
    # Without a logging configuration, nothing below a warning is visible.
    assert [record.levelname for record in told] == ["WARNING"]


def test_a_run_whose_experiment_is_deleted_keeps_its_data_and_stops_no_other(
    server: EventServer, spool_dir: Path
) -> None:
    server.experiments["digits"] = {"experiment_id": "7", "lifecycle_stage": "deleted", "artifact_location": "x"}
    stuck = offline()
    with runfold.run("fine", mode="offline") as fine:
        fine.log({"x": 1})
    report = sync(spool_dir, server.uri)
    assert report.sent == [fine.id]
    assert report.left.keys() == {stuck.spool}
    assert "experiment 'digits' is deleted" in report.left[stuck.spool]
    server.experiments["digits"]["lifecycle_stage"] = "active"
    assert sync(spool_dir, server.uri).sent == [stuck.id]
    assert len(server.rows()) == 11


def test_a_run_can_be_created_in_another_experiment_than_it_named(server: EventServer, spool_dir: Path) -> None:
    server.experiments["digits"] = {"experiment_id": "7", "lifecycle_stage": "deleted", "artifact_location": "x"}
    run = offline()
    assert sync(spool_dir, server.uri).sent == []
    assert sync(spool_dir, server.uri, experiment="another").sent == [run.id]
    assert str(server.of(RunCreated)[0].experiment_id) == server.experiments["another"]["experiment_id"]


def test_a_creation_that_this_release_can_not_read_stops_no_other_spool(server: EventServer, spool_dir: Path) -> None:
    strange, fine = offline(), offline()
    segment = strange.spool / "00000000.seg"
    frames = list(scan(segment.read_bytes(), len(MAGIC)))
    newer = json.dumps({**json.loads(frames[0].payload), "from_the_future": 1}).encode()
    parts = [
        pack(FrameKind.CREATION, 0, newer),
        *(pack(frame.kind, frame.points, frame.payload) for frame in frames[1:]),
    ]
    segment.write_bytes(MAGIC + b"".join(parts))
    report = sync(spool_dir, server.uri)
    assert report.sent == [fine.id]
    assert "from_the_future" in report.left[strange.spool]
    assert len(server.rows()) == 10


def test_a_sync_that_gets_nowhere_says_why_and_keeps_everything(spool_dir: Path) -> None:
    run = offline()
    report = sync(spool_dir, "http://127.0.0.1:9", patience=0.3)
    assert "127.0.0.1:9 does not answer" in report.left[run.spool]
    with event_server() as server:
        assert sync(run.spool, server.uri).points == 10


def test_garbage_in_the_spool_is_named_and_stays_and_stops_nothing(server: EventServer, spool_dir: Path) -> None:
    run = offline()
    (spool_dir / "README").write_text("mine")
    (spool_dir / "empty").mkdir()
    (run.spool / "core.1234").write_bytes(b"\0" * 100)
    broken = run.spool.parent / "broken"
    shutil.copytree(run.spool, broken)
    (broken / "about.json").write_text("{")
    report = sync(spool_dir, server.uri)
    assert report.sent == [run.id]
    assert "about.json can't be read" in report.left[broken]
    assert report.unreadable == [f"{run.spool / 'core.1234'} is not a file of Runfold"]
    assert (run.spool / "core.1234").exists()
    assert (spool_dir / "README").exists()
    assert sync(spool_dir, server.uri).points == 0


def test_what_is_on_disk_does_not_stay_in_memory_while_the_server_is_away(
    server: EventServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runfold.run()
    run.flush()
    server.blocked.clear()
    for step in range(30_000):
        run.log({f"key {k}": step for k in range(10)}, step=step)
        if step % 1000 == 999:
            run._writer._flusher.save()
            assert run._writer._buffer.size == 0
    assert run._writer.unacknowledged() == (300_000, 0)
    server.blocked.set()
    run.finish()
    assert len(server.rows()) == 30_000


@pytest.mark.parametrize("as_array", [False, True])
def test_the_log_call_itself_saves_what_has_waited_for_too_long(
    server: EventServer, monkeypatch: pytest.MonkeyPatch, as_array: bool
) -> None:
    def log(value: float) -> None:
        if as_array:
            run.log_series("x", None, [value])
        else:
            run.log({"x": value})

    run = runfold.run()
    run.flush()
    # The background thread never runs, as if something held the interpreter for ever.
    monkeypatch.setattr("runfold.pipeline.flusher.FlushThread.wake", lambda self, flusher: None)
    log(0)
    time.sleep(0.5)
    log(1)
    assert run._writer._spool.points == 0
    time.sleep(0.6)
    log(2)
    assert run._writer._spool.points == 3
    monkeypatch.undo()
    run.finish()


@pytest.mark.parametrize("as_array", [False, True])
def test_what_a_checkpoint_needs_is_on_disk_when_save_returns(server: EventServer, as_array: bool) -> None:
    server.blocked.clear()
    run = runfold.run(mode=None if as_array else "offline")
    if as_array:
        run.log_series("x", None, [0.5] * 1000)
    else:
        run.log({"x": 0.5})
    assert run.save()
    assert run._writer._spool.points == (1000 if as_array else 1)
    server.blocked.set()
    run.finish()


@pytest.mark.parametrize("fsync", [False, True])
def test_what_is_saved_is_flushed_to_the_disk_if_it_shall_survive_the_machine(
    monkeypatch: pytest.MonkeyPatch, fsync: bool
) -> None:
    flushed: dict[str, int] = {}

    def note(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        flushed[path] = os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fdatasync", note)
    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setenv("RUNFOLD_SPOOL_FSYNC", str(int(fsync)))
    with runfold.run(mode="offline") as run:
        for step in range(3):
            run.log({"x": step})
            run.save()
            (segment,) = run.spool.glob("*.seg")
            # The whole file, and its directory.
            assert flushed.get(str(segment)) == (segment.stat().st_size if fsync else None)
            assert (str(run.spool) in flushed) == fsync


PART = """
import os, runfold
run = runfold.run("digits", mode="offline", run_id="one")
step = 0
while not run.refused:
    run.log_series("x", None, [0.5] * 10_000)
    run.save()
print(run.refused, flush=True)
os._exit(0)
"""


def test_the_processes_of_a_node_have_one_bound_for_a_run_together(
    server: EventServer, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNFOLD_SPOOL_MB", "8")
    monkeypatch.setenv("RUNFOLD_SPOOL_DIR", str(spool_dir))
    sizes = []
    for _ in range(3):
        subprocess.run([sys.executable, "-c", PART], check=True, timeout=60, stdout=subprocess.DEVNULL)
        sizes.append(sum(path.stat().st_size for path in spool_dir.rglob("*.seg")))
    assert sizes[0] > 7 << 20
    # A later process has no room for anything but its creation.
    assert max(sizes) <= 8 << 20
    other = runfold.run(mode="offline", run_id="other")
    other.log_series("x", None, [0.5] * 10_000)
    assert not other.refused, "another run has a bound of its own"
    other.finish()
    late = runfold.run(mode="offline", run_id="one")
    late.log_series("x", None, [0.5] * 10_000)
    assert late.refused == 10_000
    # Room becomes free when the other spools have been sent. The process notices by checking.
    sync(spool_dir, server.uri)

    def is_taken() -> bool:
        before = late.refused
        late.log({"x": 1.0})
        return late.refused == before

    wait_for(is_taken, "room again")
    late.finish()


STARVED = """
import ctypes, os, signal, runfold
run = runfold.run("digits", mode="offline")
for step in range(100): run.log({"x": step})
ctypes.PyDLL(None).usleep(1_200_000)  # a C call that does not let the interpreter go
run.log({"x": 100})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_long_c_call_the_next_log_call_has_put_what_is_old_on_disk(
    server: EventServer, spool_dir: Path
) -> None:
    for _ in range(3):
        server.posts.clear()
        died = subprocess.run([sys.executable, "-c", STARVED], timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL
        sync(spool_dir, server.uri)
        assert [step for _, step, _ in server.rows()][:100] == [*range(100)]


def test_what_is_refused_for_good_costs_no_other_run_s_data(server: EventServer, spool_dir: Path) -> None:
    bad, good = offline(), offline()
    server.bad = lambda got: isinstance(got.event, MetricsLogged) and got.event.run_id == bad.id
    report = sync(spool_dir, server.uri)
    assert sorted(report.sent) == sorted([bad.id, good.id])
    assert [f"run {bad.id}: the server rejected events" in text for text in report.rejected] == [True]
    assert len(server.rows()) == 10
    assert len(server.of(RunUpdated)) == 2


TRAINER = """
import sys, time, runfold
run = runfold.run("digits", mode=sys.argv[1])
step = 0
out = sys.stdout
while True:
    run.log({"x": step, "y": -step}, step=step)
    if step % 50 == 0:
        out.write(f"{time.monotonic()} {step}\\n"); out.flush()
    if step % 997 == 0:
        run.set_tags({"at": step})
    step += 1
    if step % 20 == 0:
        time.sleep(0.001)
"""


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_kill_9_at_any_moment_loses_at_most_the_last_second(
    server: EventServer, spool_dir: Path, tmp_path: Path, mode: str
) -> None:
    chance = random.Random(f"kills {mode}")
    for number in range(3):
        log = tmp_path / f"{mode}{number}"
        server.posts.clear()
        with log.open("wb") as output:
            trainer = subprocess.Popen([sys.executable, "-c", TRAINER, mode], stdout=output)
        wait_for(partial(_has_bytes, log), "the training goes on")
        time.sleep(1.0 + chance.random() * 1.5)
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
        killed_at = time.monotonic()
        sync(spool_dir, server.uri)
        assert files(spool_dir) == []
        told = [line.split() for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        sure = max((int(step) for at, step in told if float(at) < killed_at - 1.0), default=-1)
        assert sure > 0, "the trainer died before anything had to be there: this shows nothing"
        steps = [step for _, step, _ in server.rows()]
        assert steps == [*range(len(steps))]
        assert steps[-1] >= sure


def wait_for(ask: object, what: str, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not ask():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"uri": 7}, "uri and node must be strings"),
        ({"run_id": None}, "run_id, experiment"),
        ({"uri": "kafka://broker/runfold"}, "needs ?api="),
        ({"uri": "ftp://server"}, "must start with http"),
    ],
)
def test_a_spool_whose_name_tag_says_no_server_stops_no_other(
    server: EventServer, spool_dir: Path, about: dict[str, object], why: str
) -> None:
    bad, good = offline(), offline()
    tag = bad.spool / "about.json"
    tag.write_text(json.dumps(json.loads(tag.read_text()) | about))
    (spool_dir / "up").symlink_to(spool_dir)
    (spool_dir / "also up").symlink_to(spool_dir)
    report = sync(spool_dir, server.uri)
    assert report.sent == [good.id]
    assert why in report.left[bad.spool]
    assert sync(spool_dir, server.uri, use_recorded=False).sent == ([bad.id] if "://" in str(about) else [])


def test_a_script_that_ends_has_the_ends_of_all_its_runs_on_disk_before_it_waits_for_one(
    spool_dir: Path, tmp_path: Path
) -> None:
    def ended() -> int:
        return sum(b"RunUpdated" in path.read_bytes() for path in spool_dir.rglob("*.seg"))

    script = "import runfold\nruns = [runfold.run(tracking_uri='http://127.0.0.1:9') for _ in range(5)]"
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        # Waiting for one run after the other would take longer.
        deadline = time.monotonic() + 30
        while process.poll() is None and ended() < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert ended() == 5


def _has_bytes(path: Path) -> bool:
    return path.stat().st_size > 0
