"""Rejected events, runs that are joined or resumed, the status at the end, and messages that help."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runfold
from runfold.pipeline.spool_sync import sync
from runfold_schemas.events.runs import ParamsLogged, RunCreated, RunUpdated, TagsSet
from tests.support.doubles.event_server import EventServer, Fault, event_server


def refuse(server: EventServer, params: dict[str, str]) -> None:
    """Decides like the fold: a changed param rejects its whole event."""

    def decide(got: Any) -> dict[str, str] | None:
        if isinstance(got.event, ParamsLogged) and any(
            params.get(name, text) != text for name, text in got.event.params.items()
        ):
            return {"outcome": "rejected", "code": "param_changed", "message": "it is another already"}
        return None

    server.decide = decide


def taken(server: EventServer) -> dict[str, str]:
    """Return the params that were not rejected."""
    kept: dict[str, str] = {}
    for got in server.folded():
        if isinstance(got.event, ParamsLogged) and server.decide(got) is None:
            kept.update(got.event.params)
    return kept


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_param_that_changed_on_resume_costs_nothing_but_itself(
    server: EventServer, spool_dir: Path, caplog: pytest.LogCaptureFixture, mode: Any
) -> None:
    refuse(server, {"epochs": "10"})
    with runfold.run(params={"epochs": 20, "lr": 0.1, "seed": 3}, run_id="resumed", mode=mode) as run:
        run.log({"x": 1})
        run.log_params({"late": 1, "epochs": 30})
    after = "the code behind the block runs"
    assert after
    if mode == "offline":
        assert len(sync(spool_dir, server.uri).rejected) == 1
    else:
        assert "2 events were rejected" in caplog.text
    assert taken(server) == {"lr": "0.1", "seed": "3", "late": "1"}
    assert server.of(RunUpdated)[-1].status == "FINISHED"


def test_params_of_a_run_of_ones_own_share_an_event_but_for_those_that_may_be_refused(server: EventServer) -> None:
    refuse(server, {"a": "1"})
    with runfold.run(params={"a": 1, "b": 2}) as run:
        run.log_params({"a": 3, "c": 4, "d": 5})
    assert [event.params for event in server.of(ParamsLogged)] == [
        {"a": "1", "b": "2"}, {"c": "4", "d": "5"}, {"a": "3"},
    ]  # fmt: skip
    assert taken(server) == {"a": "1", "b": "2", "c": "4", "d": "5"}


def test_a_colleague_who_deletes_the_run_does_not_end_the_training(
    server: EventServer, caplog: pytest.LogCaptureFixture
) -> None:
    with runfold.run() as run:
        run.flush()
        server.decide = lambda got: {"outcome": "rejected", "code": "run_not_active", "message": "it is deleted"}
        run.log({"x": 1})
        run.set_tags({"a": 1})
    assert "it is deleted" in caplog.text
    assert "2 events were rejected" in caplog.text or "3 events were rejected" in caplog.text


@pytest.mark.parametrize("value", ["warn", "raise", "shout"])
def test_what_happens_on_a_refusal_can_be_chosen(
    server: EventServer, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    refuse(server, {"a": "0"})
    monkeypatch.setenv("RUNFOLD_ON_REJECTION", value)
    if value == "shout":
        with pytest.raises(runfold.SdkError, match="RUNFOLD_ON_REJECTION='shout' must be warn or raise"):
            runfold.run()
        return
    run = runfold.run(params={"a": 1})
    if value == "raise":
        with pytest.raises(runfold.ServerRefused, match="another already"):
            run.finish()
    else:
        run.finish()
    runfold.run(params={"a": 1}, on_rejection="warn").finish()


def there_is(server: EventServer, run_id: str, status: str = "FINISHED") -> None:
    """Return a server answer: a run of the experiment "digits"."""
    runfold.run("digits").finish()
    server.posts.clear()
    server.runs[run_id] = {"run_id": run_id, "experiment_id": "1", "status": status}


@pytest.mark.parametrize(("rank", "says"), [(None, True), ("0", True), ("1", False)])
def test_who_goes_on_with_a_run_says_once_that_it_runs_and_what_it_is_called(
    server: EventServer, monkeypatch: pytest.MonkeyPatch, rank: str | None, says: bool
) -> None:
    there_is(server, "known")
    if rank is not None:
        monkeypatch.setenv("RUNFOLD_RANK", rank)
    with runfold.run("digits", name="renamed", tags={"stage": "two"}, run_id="known") as run:
        run.flush()
        updates = [(event.status, event.end_ms, event.name) for event in server.of(RunUpdated)]
        assert updates == ([("RUNNING", None, "renamed")] if says else [])
        assert [event.tags for event in server.of(TagsSet)] == ([{"stage": "two"}] if says else [])


def test_who_joins_a_run_that_runs_or_is_beside_the_job_does_not_say_so(
    server: EventServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_is(server, "running", "RUNNING")
    runfold.run(run_id="running").finish()
    runfold.run(run_id="new").finish()
    there_is(server, "over")
    monkeypatch.setenv("RUNFOLD_ATTEMPT", "")
    runfold.run(run_id="over").finish()
    assert [event.status for event in server.of(RunUpdated)] == ["FINISHED"]


def test_an_offline_attempt_runs_again_too(server: EventServer, spool_dir: Path) -> None:
    with runfold.run(run_id="known", mode="offline"):
        pass
    sync(spool_dir, server.uri)
    assert [event.status for event in server.of(RunUpdated)] == ["RUNNING", "FINISHED"]


def test_an_end_that_an_earlier_attempt_left_on_disk_does_not_end_the_new_one(server: EventServer) -> None:
    there_is(server, "known", "RUNNING")
    left = runfold.run("digits", run_id="known", mode="offline")
    for step in range(10):
        left.log({"x": step})
    left.finish("FAILED")
    with runfold.run("digits", run_id="known"):
        wait_for(lambda: "FAILED" in statuses(server), "what was left is sent")
        wait_for(lambda: statuses(server)[-1] == "RUNNING", "it runs again")
    assert statuses(server)[-1] == "FINISHED"


def statuses(server: EventServer) -> list[str]:
    return [event.status for event in server.of(RunUpdated)]


def wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_run_is_joined_in_its_own_experiment_and_another_one_is_refused_at_the_start(server: EventServer) -> None:
    there_is(server, "known")
    with pytest.raises(runfold.ServerRefused, match="run known belongs to experiment 'digits', not 'letters'"):
        runfold.run("letters", run_id="known")
    assert list(server.experiments) == ["digits"]
    assert server.posts == []
    with runfold.run(run_id="known") as run:
        assert run.experiment_id == "1"
    assert server.of(RunCreated)[0].experiment_id == 1


@pytest.mark.parametrize("status", [401, 403, 407, 404])
def test_a_proxy_that_refuses_the_start_is_no_reason_not_to_train(
    server: EventServer, caplog: pytest.LogCaptureFixture, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.proxy = status
    run = runfold.run(run_id="known")
    run.log({"x": 1})
    assert f"answered {status}" in caplog.text
    assert "The run starts anyway" in caplog.text
    server.proxy = None
    run.finish()
    assert len(server.rows()) == 1
    server.proxy = status
    monkeypatch.setenv("RUNFOLD_REQUIRE_SERVER", "1")
    with pytest.raises(runfold.NotConnected, match=str(status)):
        runfold.run()


def test_a_run_is_there_for_others_when_it_has_begun(server: EventServer) -> None:
    runs = [runfold.run() for _ in range(5)]
    assert {event.run_id for event in server.of(RunCreated)} == {run.id for run in runs}
    for run in runs:
        run.finish()


def test_a_server_that_takes_no_events_holds_the_start_up_only_shortly(server: EventServer) -> None:
    server.blocked.clear()
    begin = time.monotonic()
    run = runfold.run()
    assert time.monotonic() - begin < 10
    server.blocked.set()
    run.finish()


def test_none_among_metrics_is_left_out_with_one_warning_per_name(
    server: EventServer, caplog: pytest.LogCaptureFixture
) -> None:
    with runfold.run() as run:
        for step in range(3):
            run.log({"loss": step, "val": None, "deep": {"er": None}})
        run.log({"val": None})
        run.log({"val": 2.0})
    assert [(keys, values) for keys, _, values in server.rows()] == [
        (("loss",), [0.0]), (("loss",), [1.0]), (("loss",), [2.0]), (("val",), [2.0]),
    ]  # fmt: skip
    assert caplog.text.count("is None") == 2
    assert "'val'" in caplog.text
    assert "'deep/er'" in caplog.text


def test_an_empty_dict_among_params_is_kept(server: EventServer) -> None:
    with runfold.run(params={"a": {}, "b": {"c": {}}}, tags={"t": {}}):
        pass
    assert server.of(ParamsLogged)[0].params == {"a": "{}", "b/c": "{}"}
    assert server.of(RunCreated)[0].tags == {"t": "{}"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1, None], r"metric 'x'.*None \(value 1\)"),
        ([1.0, "a"], r"metric 'x'.*'a' \(value 1\)"),
        (np.array([1, None]), r"metric 'x'.*value 1 is None"),
    ],
)
def test_what_a_series_can_not_hold_is_named_with_its_key_and_place(
    server: EventServer, values: Any, says: str
) -> None:
    with runfold.run() as run, pytest.raises(TypeError, match=says):
        run.log_series("x", None, values)


def test_an_end_that_takes_long_says_what_it_waits_for(
    server: EventServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("runfold.pipeline.run_writer._QUIET_SECONDS", 0.2)
    monkeypatch.setenv("RUNFOLD_FINISH_TIMEOUT", "30")
    with event_server() as gone:
        run = runfold.run(tracking_uri=gone.uri)
        run.flush()
        gone.faults = [Fault(503, delay=1.0)]
        run.log({"x": 1})
        run.finish()
    waits = [record for record in caplog.records if "RUNFOLD_FINISH_TIMEOUT" in record.getMessage()]
    assert [record.levelno for record in waits] == [logging.WARNING]
    assert f"for {gone.uri} to accept 1 points and 1 facts" in waits[0].getMessage()
    runfold.run().finish()
    assert caplog.text.count("RUNFOLD_FINISH_TIMEOUT") == 1


ENDS = {
    "sys.exit(1)": "FAILED",
    "sys.exit('it broke')": "FAILED",
    "sys.exit()": "FINISHED",
    "sys.exit(0)": "FINISHED",
    "exit(2)": "FAILED",
    "import argparse; argparse.ArgumentParser().error('no such option')": "FAILED",
    "raise ValueError": "FAILED",
    """
try: sys.exit(1)
except SystemExit: pass
""": "FINISHED",
    """
import threading
thread = threading.Thread(target=lambda: sys.exit(1)); thread.start(); thread.join()
""": "FINISHED",
    """
def train():
    try: sys.exit(3)
    finally: run.log({"x": 10})
train()
""": "FAILED",
    """
earlier = sys.exit
def hook(code=None): print("hooked", flush=True); earlier(code)
sys.exit = hook
sys.exit(4)
""": "FAILED",
}


@pytest.mark.parametrize("ending", ENDS)
def test_a_script_that_exits_outside_of_a_block_ends_as_inside(
    server: EventServer, tmp_path: Path, ending: str
) -> None:
    code = f"import sys\nrun = __import__('unittest.mock').mock.Mock()\n{ending}"
    plain = subprocess.run([sys.executable, "-c", code],
                           cwd=tmp_path, timeout=60, capture_output=True, check=False)  # fmt: skip
    script = f"import sys, runfold\nrun = runfold.run()\nrun.log({{'x': 1}})\n{ending}"
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, timeout=60, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (plain.returncode, plain.stdout)
    assert [event.status for event in server.of(RunUpdated)] == [ENDS[ending]]


def test_hooks_of_others_are_still_called(server: EventServer, tmp_path: Path) -> None:
    script = (
        "import sys, runfold\n"
        "earlier = sys.exit\n"
        "def hook(code=None): print('called', code, flush=True); earlier(code)\n"
        "sys.exit = hook\n"
        "run = runfold.run(); other = runfold.run()\n"
        "sys.exit(5)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, timeout=60, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (5, b"called 5\n")
    assert [event.status for event in server.of(RunUpdated)] == ["FAILED", "FAILED"]


def test_a_reduction_that_there_is_not_is_told_at_once(server: EventServer, caplog: pytest.LogCaptureFixture) -> None:
    tag = "runfold.rankReduction"
    with runfold.run(tags={tag: "mean"}) as run:
        run.set_tags({tag: "all"})
        assert tag not in caplog.text
        run.set_tags({tag: "avg"})
    with runfold.run(tags={tag: "average"}):
        pass
    said = [record.getMessage() for record in caplog.records if tag in record.getMessage()]
    assert [value in text for value, text in zip(("'avg'", "'average'"), said, strict=True)] == [True, True]
    assert said[0].endswith("Use one of mean, min, max, median, sum, first, all")
