"""Two processes under real launchers write one run, and the next job another.

`make test-frameworks` installs what they need.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.installations.framework_trainings import (
    BENCH,
    BIN,
    PYTHON,
    TRAININGS,
    complaints,
    experiment_id_of,
    trained,
)
from tests.support.installations.installation import free_port
from tests.support.installations.sdk_fixtures import Deployment

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

if TYPE_CHECKING:
    from collections.abc import Mapping

MPICH = BENCH / "mpich"
DEBIANS_MPIRUN = Path("/usr/bin/mpirun.openmpi")
AS_ROOT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


class Launcher(NamedTuple):
    """How two processes are started; PORT is a free one, HOSTS a file that names this machine."""

    words: list[str | Path]
    program: str
    variables: Mapping[str, str] = MappingProxyType({})
    ids: int = 2
    """How many runs it prints: one per process and run."""
    runs: int = 1


LAUNCHERS = {
    "torchrun --master-port": Launcher([BIN / "torchrun", "--nproc-per-node=2", "--master-port=PORT"], "rank_torch"),
    "python -m torch.distributed.run": Launcher(
        [PYTHON, "-u", "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=PORT"], "rank_torch"
    ),
    "torchrun --standalone": Launcher([BIN / "torchrun", "--standalone", "--nproc-per-node=2"], "rank_torch"),
    "torchrun --rdzv-id": Launcher(
        [
            BIN / "torchrun", "--nproc-per-node=2", "--rdzv-id=job-PORT", "--rdzv-backend=c10d",
            "--rdzv-endpoint=127.0.0.1:PORT",
        ],
        "rank_torch",
    ),
    "accelerate launch --multi_gpu": Launcher(
        [BIN / "accelerate", "launch", "--multi_gpu", "--num_processes=2", "--main_process_port=PORT"],
        "rank_accelerate", {"ACCELERATE_USE_CPU": "true"},
    ),
    # Accelerate starts two processes on a CPU by mpirun only.
    "accelerate launch --cpu": Launcher(
        [
            BIN / "accelerate", "launch", "--cpu", "--num_processes=2", "--num_machines=1", "--main_process_port=PORT",
            "--mpirun_hostfile=HOSTS",
        ],
        "rank_accelerate", AS_ROOT,
    ),
    "mpirun of Open MPI": Launcher([BIN / "mpirun", "--oversubscribe", "-n", "2", PYTHON], "rank_mpi", AS_ROOT),
    "Debian's mpirun": Launcher(
        [DEBIANS_MPIRUN, "--oversubscribe", "-n", "2", PYTHON], "rank_mpi", {**AS_ROOT, "MPI4PY_MPIABI": "openmpi"}
    ),
    "mpiexec of MPICH": Launcher(
        [MPICH / "bin" / "mpiexec", "-n", "2", PYTHON], "rank_mpi",
        {"LD_LIBRARY_PATH": str(MPICH / "lib"), "MPI4PY_MPIABI": "mpich"},
    ),
    # One process on each of two nodes, which are this machine; the agent stands in for ssh.
    "mpirun of Debian on two nodes": Launcher(
        [
            DEBIANS_MPIRUN, "--host", "127.0.0.3:1,127.0.0.4:1", "--mca", "plm_rsh_agent", TRAININGS / "no_ssh.sh",
            "-n", "2", PYTHON,
        ],
        "rank_mpi", {**AS_ROOT, "MPI4PY_MPIABI": "openmpi"},
    ),
    "accelerate's notebook_launcher": Launcher([PYTHON], "notebook", {"ACCELERATE_USE_CPU": "true"}, ids=4, runs=2),
    "Lightning's ddp": Launcher([PYTHON], "rank_lightning", ids=4, runs=2),
    "Fabric's own launch": Launcher([PYTHON], "fabric_ranks"),
    "fabric run": Launcher(
        [BIN / "fabric", "run", "--accelerator=cpu", "--devices=2", "--strategy=ddp", "--main-port=PORT"],
        "fabric_ranks",
    ),
}  # fmt: skip


def runs_of(uri: str, folder: Path, experiment: str, launcher: Launcher) -> list[str]:
    """The ids that all processes of a job print."""
    port = str(free_port())
    (folder / "hosts").write_text("localhost slots=2\n")
    words = [str(word).replace("PORT", port).replace("HOSTS", "hosts") for word in launcher.words]
    done = trained(uri, [*words, TRAININGS / f"{launcher.program}.py", experiment], folder, **launcher.variables)
    assert complaints(done.stdout + done.stderr) == []
    # Two processes may write one line.
    return re.findall(r"run ([0-9a-f]{32})", done.stdout)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name_of_launcher", LAUNCHERS)
def test_two_processes_of_a_launcher_write_one_run_and_the_next_job_s_another(
    deployment: Deployment, name: str, tmp_path: Path, name_of_launcher: str
) -> None:
    url, launcher = deployment[1].url, LAUNCHERS[name_of_launcher]
    if launcher.words[0] == DEBIANS_MPIRUN and not DEBIANS_MPIRUN.exists():
        pytest.skip("Debian's package openmpi-bin is not installed; the one from the package index is tested above")
    jobs = [runs_of(url, tmp_path, name, launcher) for _ in range(2)]
    assert [(len(job), len(set(job))) for job in jobs] == [(launcher.ids, launcher.runs)] * 2
    assert not set(jobs[0]) & set(jobs[1])
    client = MlflowClient(url)
    found = client.search_runs([experiment_id_of(client, name)])
    assert {run.info.run_id for run in found} == {*jobs[0], *jobs[1]}
    for run in found:
        assert (run.info.status, set(run.data.metrics)) == ("FINISHED", {"of 0", "of 1"})


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "rendezvous", [["--master-port=PORT"], ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:PORT"]]
)
def test_a_restart_by_torchrun_without_an_id_goes_on_with_the_run(
    deployment: Deployment, kafka_uri: str, name: str, tmp_path: Path, rendezvous: list[str]
) -> None:
    words: list[str | Path] = [BIN / "torchrun", "--nproc-per-node=2", "--max-restarts=1", *rendezvous]
    ids = runs_of(kafka_uri, tmp_path, name, Launcher(words, "rank_restarted"))
    assert (len(ids), len(set(ids))) == (4, 1)
    client = MlflowClient(deployment[1].url)
    (run,) = client.search_runs([experiment_id_of(client, name)])
    assert (run.info.run_id, run.info.status) == (ids[0], "FINISHED")
    assert [point.step for point in client.get_metric_history(ids[0], "of 1")] == [0, 1, 2, 0, 1, 2]
