"""One run written by many processes, started like launchers do, in any order and with restarts."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import pytest

from tests.support.installations.sdk_fixtures import Deployment

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

if TYPE_CHECKING:
    from tests.support.installations.installation import Installation

SOAK = bool(os.environ.get("RUNFOLD_SOAK"))
RANKS, STEPS = 20, 50

RANK = """
import os, sys, runfold
rank = int(os.environ["RANK"])
run = runfold.run(sys.argv[1], params={"lr": 0.1})
for step in range(int(sys.argv[2])):
    run.log({"loss": rank * 1000.0 + step}, step=step)
run.flush()
print(run.id, flush=True)
sys.stdin.readline()
run.finish()
"""


def launch(url: str, experiment: str, rank: int, world_size: int, **variables: str) -> subprocess.Popen[str]:
    """Start one process like torchrun does."""
    env = {
        **os.environ, "RUNFOLD_TRACKING_URI": url, "TORCHELASTIC_RUN_ID": f"job of {experiment}",
        "TORCHELASTIC_RESTART_COUNT": "0", "RANK": str(rank), "WORLD_SIZE": str(world_size), **variables,
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", RANK, experiment, str(STEPS)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def test_tens_of_processes_write_one_run_and_rank_0_ends_it(deployment: Deployment, name: str) -> None:
    url = deployment[1].url
    # Rank 0 comes last, because any rank may create the run.
    ranks = [launch(url, name, rank, RANKS) for rank in reversed(range(RANKS))]
    (run_id,) = {told(process) for process in ranks}
    client = MlflowClient(url)
    for process in ranks[:-1]:
        end(process)
    assert client.get_run(run_id).info.status == "RUNNING"
    end(ranks[-1])
    run = client.get_run(run_id)
    assert (run.info.status, run.data.params) == ("FINISHED", {"lr": "0.1"})
    assert run.data.tags["runfold.world_size"] == str(RANKS)
    points = sorted((point.step, point.value) for point in client.get_metric_history(run_id, "loss"))
    assert points == sorted((step, rank * 1000.0 + step) for rank in range(RANKS) for step in range(STEPS))


def test_a_restarted_job_joins_its_run_as_a_new_attempt_and_keeps_both_s_points(
    deployment: Deployment, name: str
) -> None:
    installation, server = deployment
    first = [launch(server.url, name, rank, 2) for rank in range(2)]
    (run_id,) = {told(process) for process in first}
    for process in first:
        process.kill()
        process.communicate()
    second = [launch(server.url, name, rank, 2, TORCHELASTIC_RESTART_COUNT="1") for rank in range(2)]
    assert {told(process) for process in second} == {run_id}
    for process in second:
        end(process)
    client = MlflowClient(server.url)
    points = sorted((point.step, point.value) for point in client.get_metric_history(run_id, "loss"))
    assert points == sorted(2 * [(step, rank * 1000.0 + step) for rank in range(2) for step in range(STEPS)])
    attempts = asked(installation, "SELECT attempt FROM attempt WHERE run_id = $1 ORDER BY ordinal", run_id)
    assert attempts == [(f"torchelastic-job of {name}-{n}",) for n in range(2)]


SPAWNED = """
import multiprocessing, sys, runfold

def work(run_id, n):
    with runfold.run(sys.argv[1], run_id=run_id) as mine:
        mine.log({f"of {n}": 1.0})

if __name__ == "__main__":
    run = runfold.run(sys.argv[1])
    run.log({"parent": 1.0})
    processes = [
        multiprocessing.get_context(kind).Process(target=work, args=(run.id, n))
        for n, kind in enumerate(["fork", "spawn", "fork"])
    ]
    for process in processes: process.start()
    for process in processes: process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    run.log({"parent": 2.0})
    run.finish()
    print(run.id)
"""


def test_forked_and_spawned_children_join_by_id(deployment: Deployment, name: str, tmp_path: object) -> None:
    url = deployment[1].url
    script = os.path.join(str(tmp_path), "spawned.py")
    with open(script, "w") as file:
        file.write(SPAWNED)
    env = {**os.environ, "RUNFOLD_TRACKING_URI": url}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, name],
        env=env, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = MlflowClient(url).get_run(done.stdout.strip())
    assert run.data.metrics == {"parent": 2.0, "of 0": 1.0, "of 1": 1.0, "of 2": 1.0}
    assert run.info.status == "FINISHED"


WRITERS = """
import os, resource, sys, runfold
first, last = int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
runs = []
for rank in range(first, last):
    os.environ["RUNFOLD_RANK"] = str(rank)
    runs.append(runfold.run(sys.argv[1], run_id=sys.argv[4]))
for step in range(3):
    for rank, run in enumerate(runs, first):
        run.log({"loss": float(rank)}, step=step)
for run in reversed(runs):
    run.finish()
"""


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_very_many_writers_write_one_run(deployment: Deployment, name: str) -> None:
    # 4,096 under `make soak`: few processes, each with the writers of many ranks.
    writers, processes = (4096, 4) if SOAK else (256, 2)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 2 * writers / processes
    url = deployment[1].url
    run_id = f"many-{writers}"
    each = writers // processes
    env = {**os.environ, "RUNFOLD_TRACKING_URI": url, "RUNFOLD_WORLD_SIZE": str(writers)}
    started = [
        subprocess.Popen([sys.executable, "-c", WRITERS, name, str(n * each), str((n + 1) * each), run_id], env=env)
        for n in range(processes)
    ]
    assert [process.wait(800) for process in started] == [0] * processes
    client = MlflowClient(url)
    points = sorted((point.step, point.value) for point in client.get_metric_history(run_id, "loss"))
    assert points == [(step, float(rank)) for step in range(3) for rank in range(writers)]
    assert client.get_run(run_id).info.status == "FINISHED"


def asked(installation: Installation, query: str, *args: object) -> list[tuple[object, ...]]:
    import asyncio

    from tests.support.installations.in_process import fetch

    return asyncio.run(fetch(installation, query, *args))
