"""A run from its start to its end, against a server double on a real socket."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import runfold
from runfold.pipeline.spool_sync import sync
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.events.runs import ParamsLogged, RunCreated, RunUpdated, TagsSet
from runfold_schemas.positions.topics import Topic
from tests.support.doubles.event_server import EventServer, Fault, event_server


def test_a_run_is_created_described_measured_and_ended_in_this_order(server: EventServer) -> None:
    before = time.time_ns() // 1_000_000
    with runfold.run(experiment="digits", params={"lr": 0.1, "net": {"depth": 3}}, tags={"team": "a"}) as run:
        for step in range(100):
            run.log({"loss": 1 / (step + 1), "acc": 0.5}, step=step)
        run.set_tags({"best": True})
        run.log_params({"late": None})
    events = server.events()
    assert [type(e) for e in events] == [RunCreated, ParamsLogged, MetricsLogged, TagsSet, ParamsLogged, RunUpdated]
    created = events[0]
    assert isinstance(created, RunCreated)
    assert created.run_id == run.id
    assert re.fullmatch("[0-9a-f]{32}", run.id)
    assert str(created.experiment_id) == run.experiment_id == "1"
    assert created.artifact_uri == f"s3://bucket/1/{run.id}/artifacts"
    assert created.tags == {"team": "a"}
    assert re.fullmatch(r"[a-z]+-[a-z]+-\d+", created.name)
    assert before <= created.start_ms <= time.time_ns() // 1_000_000
    assert server.of(ParamsLogged)[0].params == {"lr": "0.1", "net/depth": "3"}
    assert server.of(ParamsLogged)[1].params == {"late": "None"}
    assert server.of(TagsSet)[0].tags == {"best": "True"}
    assert server.rows() == [(("loss", "acc"), step, [1 / (step + 1), 0.5]) for step in range(100)]
    end = server.of(RunUpdated)[0]
    assert end.status == "FINISHED"
    assert end.end_ms >= created.start_ms
    assert run.url == f"{server.uri}/#/experiments/1/runs/{run.id}"


def test_one_writer_counts_events_per_topic_from_zero_and_facts_wait_for_their_outcome(server: EventServer) -> None:
    with runfold.run(params={"a": 1}) as run:
        run.log({"x": 1})
        run.flush()
        run.log({"x": 2})
    got = server.folded()
    assert len({g.envelope.writer for g in got}) == 1
    assert got[0].envelope.writer.node
    assert {g.key for g in got} == {run.id.encode()}
    for topic, count in ((Topic.RUNS, 3), (Topic.METRICS, 2)):
        assert [g.envelope.sequence for g in got if g.topic is topic] == list(range(count))
    assert len({g.envelope.event_id for g in got}) == len(got)
    assert all((post.wait == "append") == (b"metrics" in post.body) for post in server.posts)


def test_steps_go_on_from_the_last_one(server: EventServer) -> None:
    with runfold.run() as run:
        for step in (None, None, 10, None, 3, None):
            run.log({"x": 0}, step=step)
        run.log({})
        run.log({"y": 1})
    assert [step for _, step, _ in server.rows()] == [0, 1, 10, 11, 3, 4, 5]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ZeroDivisionError("1/0"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(0), "FINISHED"),
        (SystemExit(3), "FAILED"),
    ],
)
def test_an_exception_ends_the_run_and_passes_unchanged(server: EventServer, error: BaseException, status: str) -> None:
    def training() -> None:
        with runfold.run() as run:
            run.log({"x": 1})
            raise error

    with pytest.raises(type(error)) as caught:
        training()
    assert caught.value is error
    assert server.of(RunUpdated)[-1].status == status
    assert len(server.rows()) == 1


def test_finish_ends_once_and_nothing_is_logged_after(server: EventServer) -> None:
    run = runfold.run()
    run.finish("KILLED")
    run.finish()
    assert [e.status for e in server.of(RunUpdated)] == ["KILLED"]
    with pytest.raises(runfold.SdkError, match="finished"):
        run.log({"x": 1})
    with pytest.raises(runfold.SdkError, match="finished"):
        run.set_tags({"x": 1})
    with pytest.raises(ValueError, match="RUNNING"):
        run.finish("RUNNING")  # type: ignore[arg-type]


def test_flush_waits_for_the_acknowledgement_and_says_when_it_does_not_come(server: EventServer) -> None:
    with runfold.run() as run:
        run.log({"x": 1})
        run.flush(timeout=20)
        assert len(server.rows()) == 1
        server.blocked.clear()
        run.log({"x": 2})
        with pytest.raises(runfold.NotConnected, match="1 points and 0 facts"):
            run.flush(timeout=0.1)
        server.blocked.set()


def test_rows_are_sent_without_a_flush(server: EventServer) -> None:
    with runfold.run() as run:
        run.log({"x": 1})
        deadline = time.monotonic() + 20
        while not server.rows():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_refused_fact_is_told_at_once_and_raised_at_the_end_if_asked_for(
    server: EventServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.decide = lambda got: (
        {"outcome": "rejected", "code": "INVALID_PARAMETER_VALUE", "message": "lr is 0.1 already"}
        if isinstance(got.event, ParamsLogged) and got.event.params == {"lr": "0.2"}
        else None
    )

    def training(error: Exception | None = None) -> None:
        with runfold.run(params={"lr": 0.1}, on_rejection="raise") as run:
            run.log_params({"lr": 0.2})
            run.flush()
            assert "ParamsLogged was rejected: lr is 0.1 already" in caplog.text
            run.log({"x": 1})
            if error:
                raise error

    with pytest.raises(runfold.ServerRefused, match=r"lr is 0\.1 already"):
        training()
    assert server.of(RunUpdated)[0].status == "FINISHED"
    assert len(server.rows()) == 1
    with pytest.raises(ZeroDivisionError):
        training(ZeroDivisionError())


def test_a_request_that_will_never_be_taken_is_raised_at_the_end(server: EventServer) -> None:
    server.faults = [Fault(200), Fault(413)]
    run = runfold.run(on_rejection="raise")
    run.flush()
    run.log({"x": 1})
    run.flush()
    run.log({"x": 2})
    with pytest.raises(runfold.ServerRefused, match="413"):
        run.finish()
    assert [values for _, _, values in server.rows()] == [[2.0]]


def test_a_record_that_a_proxy_finds_too_large_stays_in_the_spool_and_the_others_go_on(
    server: EventServer, spool_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.too_large = lambda got: isinstance(got.event, ParamsLogged)
    run = runfold.run(params={"a": 1})
    other = runfold.run()
    other.log({"x": 1})
    other.finish()
    run.finish()
    assert "stay in the spool" in caplog.text
    assert server.of(ParamsLogged) == []
    server.too_large = lambda got: False
    assert sync(spool_dir, server.uri).sent == [run.id]
    assert [event.params for event in server.of(ParamsLogged)] == [{"a": "1"}]


def test_one_bad_record_does_not_take_the_others_with_it(server: EventServer) -> None:
    server.bad = lambda got: isinstance(got.event, ParamsLogged)
    run = runfold.run(params={"a": 1}, tags={"b": 2}, on_rejection="raise")
    with pytest.raises(runfold.ServerRefused, match="1 events were rejected"):
        run.finish()
    assert [type(event) for event in server.events()] == [RunCreated, RunUpdated]


def test_a_request_that_is_wrong_by_its_way_and_not_by_its_records_loses_nothing(
    server: EventServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = [Fault(404), Fault(403), Fault(401), Fault(400, foreign=True), Fault(422, foreign=True)]
    with runfold.run() as run:
        run.log({"x": 1})
    assert len(server.rows()) == 1
    assert [type(event) for event in server.events()] == [RunCreated, MetricsLogged, RunUpdated]
    assert caplog.text.count("kept on disk; retrying") == 1


def test_a_server_that_refuses_everything_is_told_of_once(
    server: EventServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNFOLD_ON_REJECTION", "raise")
    server.faults = [Fault(422)] * 50
    run = runfold.run()
    for step in range(5):
        run.log({"x": step})
        run.flush()
    with pytest.raises(runfold.ServerRefused, match=r"7 events were rejected: .* 422: not now$"):
        run.finish()
    assert caplog.text.count("answered 422: not now") == 1


def test_without_a_server_a_run_starts_with_a_warning_unless_one_is_required(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RUNFOLD_FINISH_TIMEOUT", "0.2")
    with event_server() as gone:
        uri = gone.uri
    with runfold.run(tracking_uri=uri) as run:
        run.log({"x": 1})
        assert run.experiment_id is None
    assert f"{uri} does not answer" in caplog.text
    assert "The run starts anyway" in caplog.text
    monkeypatch.setenv("RUNFOLD_REQUIRE_SERVER", "1")
    with pytest.raises(runfold.NotConnected, match=re.escape(uri) + ".*RUNFOLD_TRACKING_URI"):
        runfold.run(tracking_uri=uri)


def test_a_run_that_began_without_a_server_is_created_and_sent_when_one_answers() -> None:
    with event_server() as late:
        uri = late.uri
    run = runfold.run("digits", params={"a": 1}, tracking_uri=uri)
    for step in range(10):
        run.log({"x": step})
    run._writer._flusher.save()
    with event_server(int(uri.rpartition(":")[2]), late):
        run.finish()
    assert [type(event) for event in late.events()] == [RunCreated, ParamsLogged, MetricsLogged, RunUpdated]
    assert late.of(RunCreated)[0].artifact_uri == f"s3://bucket/1/{run.id}/artifacts"
    assert run.experiment_id == "1"
    assert len(late.rows()) == 10


@pytest.mark.parametrize("uri", ["localhost:5000", "ftp://x", "kafka:///ns?api=http://a"])
def test_a_uri_of_another_kind_is_refused(uri: str) -> None:
    with pytest.raises(runfold.SdkError, match="RUNFOLD_TRACKING_URI"):
        runfold.run(tracking_uri=uri)


def test_two_that_create_one_experiment_both_get_it(server: EventServer) -> None:
    server.lose_create_race = True
    with runfold.run(experiment="shared") as one, runfold.run(experiment="shared") as two:
        assert one.experiment_id == two.experiment_id == "1"


def test_a_deleted_experiment_takes_no_runs(server: EventServer) -> None:
    server.experiments["old"] = {"experiment_id": "7", "lifecycle_stage": "deleted", "artifact_location": "x"}
    with pytest.raises(runfold.ServerRefused, match="deleted"):
        runfold.run(experiment="old")


def test_what_can_not_be_a_param_or_tag_says_so_before_anything_is_sent(server: EventServer) -> None:
    with pytest.raises(TypeError, match="param name 1"):
        runfold.run(params={1: 2})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="at most 250"):
        runfold.run(params={"k" * 251: 2})
    assert not server.posts
    assert not server.experiments
    with runfold.run() as run:
        with pytest.raises(ValueError, match=r"shorten tags\.text"):
            run.set_tags({"text": "x" * 2**24})
        with pytest.raises(TypeError, match="dict"):
            run.log_params([("a", 1)])  # type: ignore[arg-type]
        run.set_tags({"fine": 1})
    assert [g.envelope.sequence for g in server.folded()] == [0, 1, 2]


def test_many_threads_log_to_one_run(server: EventServer) -> None:
    def work(name: str) -> None:
        for step in range(500):
            run.log({name: step}, step=step)
            if step % 100 == 0:
                run.set_tags({name: step})

    with runfold.run() as run:
        threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = server.rows()
    for n in range(4):
        assert [values[0] for keys, _, values in rows if keys == (f"t{n}",)] == [float(s) for s in range(500)]
    facts = [g.envelope.sequence for g in server.folded() if g.topic is Topic.RUNS]
    assert facts == list(range(len(facts)))


def test_infinities_and_nan_arrive(server: EventServer) -> None:
    with runfold.run() as run:
        run.log({"a": math.inf, "b": -math.inf, "c": math.nan})
    values = server.rows()[0][2]
    assert values[:2] == [math.inf, -math.inf]
    assert math.isnan(values[2])


SCRIPT = """
import sys, os, runfold
run = runfold.run()
for i in range(10): run.log({"x": i})
"""


@pytest.mark.parametrize(
    ("ending", "status"),
    [("", "FINISHED"), ("1/0", "FAILED"), ("raise KeyboardInterrupt", "KILLED")],
)
def test_a_script_that_just_ends_has_sent_everything(
    server: EventServer, tmp_path: Path, ending: str, status: str
) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT + ending], cwd=tmp_path, timeout=60, capture_output=True, check=False)
    assert len(server.rows()) == 10
    assert server.of(RunUpdated)[-1].status == status


def test_a_forked_child_neither_ends_the_run_nor_waits(server: EventServer, tmp_path: Path) -> None:
    script = SCRIPT + (
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try: run.log({'x': 1})\n"
        "    except runfold.SdkError as error: sys.exit(7 if 'forked child' in str(error) else 8)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7\n"
        "run.log({'x': 10})\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, timeout=60, check=True)
    assert [e.status for e in server.of(RunUpdated)] == ["FINISHED"]
    assert len(server.rows()) == 11


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_forked_child_neither_saves_nor_flushes_what_its_parent_logged(
    server: EventServer, tmp_path: Path, mode: str
) -> None:
    script = f"import os; os.environ['RUNFOLD_MODE'] = '{mode}'\n{SCRIPT}" + (
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    told = 0\n"
        "    for method in (run.save, run.flush):\n"
        "        try: method()\n"
        "        except runfold.SdkError as error: told += 'forked child' in str(error)\n"
        "    os._exit(told)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, timeout=60, check=True)
    assert len(server.rows()) == (10 if mode == "online" else 0)
