"""Attempts, rewinds and forks through both transports, read through MLflow's client and the native API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from typing import Any

import pytest

import runfold
from tests.support.installations.sdk_fixtures import history

TRAINING = """
import os, sys, runfold
run_id, first, last, start = sys.argv[1], *(int(text) if text else None for text in sys.argv[2:5])
with runfold.run(os.environ["EXPERIMENT"], run_id=run_id, start_step=start) as run:
    for step in range(first, last):
        run.log({"loss": 1000.0 * int(os.environ["VALUE"]) + step}, step=step)
    run.flush() if "OFFLINE" not in os.environ else run._writer._flusher.save()
    print("logged", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["http", "kafka"])
def uri(request: pytest.FixtureRequest, url: str, kafka_uri: str) -> str:
    return url if request.param == "http" else kafka_uri


def branches(url: str, run_id: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/runfold/v1/runs/{run_id}/branches", timeout=30) as answer:
        return json.load(answer)


def drawn(url: str, run_id: str, **query: object) -> list[tuple[float, float]]:
    body = json.dumps({"runs": [run_id], "metrics": ["loss"], "px": 1000, **query}).encode()
    request = urllib.request.Request(f"{url}/api/runfold/v1/series:query", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.load(answer)
    column = found["columns"][0][0]
    return [(x, y) for x, y in zip(found["x_values"], column, strict=True) if y is not None]


def killed(uri: str, name: str, run_id: str, first: int, last: int, start: int | None, value: int, **env: str) -> None:
    """Run a training that logs these steps and dies."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING, run_id, str(first), str(last), "" if start is None else str(start)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "EXPERIMENT": name, "VALUE": str(value), "RUNFOLD_TRACKING_URI": uri, **env},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "logged\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_training_that_resumes_from_a_checkpoint_shows_the_new_branch(uri: str, url: str, name: str) -> None:
    run_id = f"resumed-{name.split()[-1]}"
    killed(uri, name, run_id, 0, 10, None, 1)
    with runfold.run(name, run_id=run_id, start_step=5, tracking_uri=uri) as run:
        for _ in range(3):
            run.log({"loss": 2.0})
    kept = [(step, 1000.0 + step) for step in range(6)]
    assert history(url, run_id, "loss") == [*kept, (6, 2.0), (7, 2.0), (8, 2.0)]
    told = branches(url, run_id)
    assert [(row["start_step"], row["branch"]) for row in told["attempts"]] == [(None, 1), (5, 2)]
    assert [(row["branch"], row["last_step"], row["cut_off_after"]) for row in told["branches"]] == [
        (1, 9, 5),
        (2, 8, None),
    ]
    assert drawn(url, run_id, branches=1, agg="last") == [(step, 1000.0 + step) for step in range(10)]


def test_an_attempt_that_could_send_nothing_is_still_the_earlier_one(uri: str, url: str, name: str) -> None:
    """Events that an attempt left on this node reach the log before the points of the next attempt."""
    run_id = f"silent-{name.split()[-1]}"
    killed(uri, name, run_id, 0, 10, None, 1, RUNFOLD_MODE="offline", OFFLINE="1")
    with runfold.run(name, run_id=run_id, start_step=5, tracking_uri=uri) as run:
        run.log({"loss": 2.0})
    kept = [(step, 1000.0 + step) for step in range(6)]
    for _ in range(100):
        if branches(url, run_id)["branches"][0]["last_step"] == 9:
            break
        threading.Event().wait(0.1)
    assert history(url, run_id, "loss") == [*kept, (6, 2.0)]


RANK = """
import os, sys, runfold
rank, attempt = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
value = lambda step, turn: attempt * 1e6 + turn * 1e4 + rank * 100 + step
with runfold.run(os.environ["EXPERIMENT"], start_step=5 if attempt else None) as run:
    for step in range(6 if attempt else 0, 10):
        run.log({"loss": value(step, 0)}, step=step)
    if attempt:
        sys.stdin.readline()
        run.rewind(7)
        for step in (8, 9):
            run.log({"loss": value(step, 1)})
    run.flush()
    print(run.id, flush=True)
    sys.stdin.read()
"""


def start_rank(uri: str, name: str, rank: int, attempt: int) -> subprocess.Popen[str]:
    launcher = {
        "TORCHELASTIC_RUN_ID": f"job {name}",
        "TORCHELASTIC_RESTART_COUNT": str(attempt),
        "RANK": str(rank),
        "WORLD_SIZE": "4",
    }
    return subprocess.Popen(
        [sys.executable, "-c", RANK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "EXPERIMENT": name, "RUNFOLD_TRACKING_URI": uri, **launcher},
    )  # fmt: skip


def test_four_ranks_are_killed_resume_and_rewind_each_for_itself(uri: str, url: str, name: str) -> None:
    ranks = [start_rank(uri, name, rank, 0) for rank in range(4)]
    run_id = {str(one.stdout and one.stdout.readline()).strip() for one in ranks}
    for one in ranks:
        one.kill()
        one.communicate()
    ranks = [start_rank(uri, name, rank, 1) for rank in range(4)]
    for one in reversed(ranks):
        # One after the other, so some continue before others have rewound.
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    again = {one.communicate()[0].strip() for one in ranks}
    assert run_id == again
    (run,) = run_id
    expected = {(step, 100.0 * rank + step) for rank in range(4) for step in range(6)}
    expected |= {(step, 1e6 + 100 * rank + step) for rank in range(4) for step in (6, 7)}
    expected |= {(step, 1e6 + 1e4 + 100 * rank + step) for rank in range(4) for step in (8, 9)}
    found = history(url, run, "loss")
    assert (set(found), len(found)) == (expected, len(expected))
    told = branches(url, run)
    assert [(row["kind"], row["rank"], row["step"]) for row in told["cuts"][:1]] == [("start", None, 5)]
    assert sorted((row["rank"], row["step"]) for row in told["cuts"][1:]) == [(rank, 7) for rank in range(4)]
    assert {row["world_size"] for row in told["attempts"]} == {None, 4}


def test_a_rewind_keeps_its_place_among_the_points(uri: str, url: str, name: str) -> None:
    with runfold.run(name, tracking_uri=uri) as run:
        for step in range(5):
            run.log({"loss": float(step), "early": 1.0, "late" if step > 3 else "soon": 2.0}, step=step)
        run.rewind(2)
        run.log({"loss": 30.0})
        run.log({"loss": 40.0})
        run.rewind(3)
        run.log({"loss": 41.0})
    assert history(url, run.id, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0), (4, 41.0)]
    from mlflow import MlflowClient

    assert MlflowClient(url).get_run(run.id).data.metrics == {"loss": 41.0, "early": 1.0, "soon": 2.0}
    assert [value for _, value in drawn(url, run.id, branches="all", agg="band")] == [0, 1, 2, 3, 4]
    assert branches(url, run.id)["branch"] == 3


def test_a_fork_inherits_what_was_there_and_nothing_of_what_its_parent_does_later(
    uri: str, url: str, name: str
) -> None:
    with runfold.run(name, tracking_uri=uri) as parent:
        for step in range(10):
            parent.log({"loss": float(step)}, step=step)
        with runfold.fork(parent, 6) as child:
            child.flush()
            assert history(url, child.id, "loss") == [(step, float(step)) for step in range(7)]
            child.log({"loss": 70.0})
        parent.rewind(3)
        parent.log({"loss": 400.0})
        parent.flush()
        with runfold.fork(child.id, 7, tracking_uri=uri) as grandchild:
            grandchild.log({"loss": 800.0})
            grandchild.rewind(1)
            grandchild.flush()
    assert history(url, parent.id, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 400.0)]
    assert history(url, child.id, "loss") == [*((step, float(step)) for step in range(7)), (7, 70.0)]
    assert history(url, grandchild.id, "loss") == [(0, 0.0), (1, 1.0)]
    assert drawn(url, grandchild.id, branches=1, agg="last")[-2:] == [(7, 70.0), (8, 800.0)]
    assert branches(url, child.id)["forked_from"]["run_id"] == parent.id
    assert [row["run_id"] for row in branches(url, parent.id)["forks"]] == [child.id]
    from mlflow import MlflowClient

    assert MlflowClient(url).get_run(grandchild.id).data.metrics == {"loss": 1.0}
    found = MlflowClient(url).get_run(child.id)
    assert (found.data.tags["runfold.forkedFrom"], found.data.tags["runfold.forkedAt"]) == (parent.id, "6")
    assert found.info.experiment_id == parent.experiment_id


def test_a_run_that_does_not_exist_is_not_forked(url: str, name: str) -> None:
    with pytest.raises(runfold.ServerRefused, match="can't be forked"):
        runfold.fork("nothing", 1, tracking_uri=url)


def test_a_fork_that_knows_its_branch_needs_no_server(name: str) -> None:
    with runfold.fork("parent", 5, branch=1, experiment=name, mode="offline") as child:
        child.log({"loss": 1.0})
    assert child.spool.is_dir()
