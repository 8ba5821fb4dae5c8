"""One run for a job without a job id: real processes, started like torchrun, mpirun and Lightning do."""

from __future__ import annotations

import os
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
    from pathlib import Path

RANK = """
import os, sys, runfold
rank = int(os.environ.get("RANK") or os.environ["OMPI_COMM_WORLD_RANK"])
with runfold.run(sys.argv[1]) as run:
    run.log({f"of {rank}": 1.0})
print(run.id, flush=True)
"""
LAUNCHER = """
import os, subprocess, sys
kind, script, experiment = sys.argv[1:]
for attempt in range(2):
    ranks = []
    for n in range(2):
        if kind == "torch":
            of_launcher = {
                "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": str(attempt),
                "RANK": str(n), "WORLD_SIZE": "2",
                "LOCAL_RANK": str(n), "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
            }
        else:
            of_launcher = {
                "OMPI_COMM_WORLD_RANK": str(n), "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
                "PMIX_NAMESPACE": "1",
            }
        # Through a shell, like --no-python and wrappers.
        ranks.append(subprocess.Popen(["sh", "-c", '"$0" "$@"; exit $?', sys.executable, script, experiment],
                                      env={**os.environ, **of_launcher}))
    assert [rank.wait() for rank in ranks] == [0, 0]
"""
LIGHTNING = """
import os, subprocess, sys, runfold
rank = int(os.environ.get("LOCAL_RANK", "0"))
first = runfold.run(sys.argv[1])
second = runfold.run(sys.argv[1])
if "LOCAL_RANK" not in os.environ:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    child = subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "LOCAL_RANK": "1"})
later = runfold.run(sys.argv[1])
for run in (first, second, later):
    run.log({f"of {rank}": 1.0})
if rank == 0:
    assert child.wait() == 0
for run in (first, second, later):
    run.finish()
sys.stdout.write(f"{first.id} {second.id} {later.id}" + chr(10))
"""


def started(url: str, program: Path, *words: str) -> list[str]:
    env = {**os.environ, "RUNFOLD_TRACKING_URI": url}
    done = subprocess.run(
        [sys.executable, str(program), *words], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(("kind", "program"), [("torch", "torchrun"), ("torch", "accelerate"), ("mpi", "mpirun")])
def test_ranks_of_one_launcher_write_one_run_and_those_of_the_next_another(
    deployment: Deployment, name: str, tmp_path: Path, kind: str, program: str
) -> None:
    url = deployment[1].url
    launcher, script = written(tmp_path / program, LAUNCHER), written(tmp_path / "rank.py", RANK)
    jobs = [started(url, launcher, kind, str(script), name) for _ in range(2)]
    assert [(len(job), len(set(job))) for job in jobs] == [(4, 1), (4, 1)]
    assert jobs[0][0] != jobs[1][0]
    run = MlflowClient(url).get_run(jobs[0][0])
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"of 0": 1.0, "of 1": 1.0})
    assert run.data.tags["runfold.world_size"] == "2"


def test_children_of_lightning_write_the_runs_of_the_process_that_started_them(
    deployment: Deployment, name: str, tmp_path: Path
) -> None:
    url = deployment[1].url
    child, parent = started(url, written(tmp_path / "train.py", LIGHTNING), name)
    assert child == parent
    assert len(set(parent.split())) == 3
    for run_id in parent.split():
        run = MlflowClient(url).get_run(run_id)
        assert (run.info.status, run.data.metrics) == ("FINISHED", {"of 0": 1.0, "of 1": 1.0})


UNKNOWN = """
import runfold
with runfold.run("plain") as run:
    run.log({"loss": 1.0})
print("trained")
"""


@pytest.mark.parametrize("variables", [{"RANK": "1", "WORLD_SIZE": "2"}, {"PMI_RANK": "1", "PMI_SIZE": "2"}])
def test_a_training_that_nobody_can_place_runs_to_its_end_with_one_warning(
    variables: dict[str, str], tmp_path: Path
) -> None:
    env = {**os.environ, **variables, "RUNFOLD_MODE": "offline", "RUNFOLD_SPOOL_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", UNKNOWN], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    assert done.stderr.count("its job can't be identified") == 1
