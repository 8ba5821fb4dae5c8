"""What all processes of a job have in common where its launcher gives the job no id of its own.

Nothing may be taken for an id that a later job on the same machine has too: two trainings would become one run. A fixed port is such a thing,
so on one node the launcher's own process is the id; its restarts of the workers keep it.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_PROGRAMS = frozenset(
    [
        "torchrun",
        "accelerate",
        "deepspeed",
        "mpirun",
        "mpiexec",
        "mpiexec.hydra",
        "orterun",
        "prterun",
        "hydra_pmi_proxy",
        "horovodrun",
        "jsrun",
        "mpirun.openmpi",
        "mpiexec.openmpi",
        "mpirun.mpich",
        "mpiexec.mpich",
        "orted",
        "prted",
        "mpirun_rsh",
        "mpispawn",
        "fabric",
        "lightning",
    ]
)
_MODULES = frozenset(
    [
        "torch.distributed.run",
        "torch.distributed.launch",
        "accelerate.commands.launch",
        "accelerate.commands.accelerate_cli",
        "deepspeed.launcher.launch",
        "lightning.fabric.cli",
    ]
)
_ERROR_FILE = re.compile(r"(?P<of_job>.+)/attempt_\d+/\d+/error\.json")
_ANCESTORS = 8
_BATCH = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
_SERVICES = ("TRAINING_JOB_NAME", "SM_TRAINING_JOB_NAME", "AZUREML_RUN_ID", "CLOUD_ML_JOB_ID")


def job_without_id(environ: Mapping[str, str], *, one_node: bool) -> str:
    """An id that only this job's processes make; empty: nothing tells the job from others."""
    found = _first(environ, _SERVICES)
    if found or not one_node:
        return found or _of_cluster(environ)
    return _of_launcher(environ) or _of_torchelastic(environ) or _of_cluster(environ)


def process_id(pid: int) -> str:
    """A process as no other one is called, on any node; empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        started = _stat(pid)[19]
    except (OSError, IndexError):
        return ""
    return hashlib.sha256(f"{boot}/{pid}/{started}".encode()).hexdigest()[:24]


def _of_cluster(environ: Mapping[str, str]) -> str:
    """Of a job on several nodes: what a scheduler calls it, with where its processes meet."""
    master = f"{environ.get('MASTER_ADDR', '')}:{environ.get('MASTER_PORT', '')}"
    batch, server = _first(environ, _BATCH), environ.get("OMPI_MCA_orte_hnp_uri", "")
    if environ.get("PMIX_NAMESPACE") and (batch or server):
        # Open MPI's own name of the job is a host and a process id, which come again: nothing by itself.
        return f"{batch}/{environ['PMIX_NAMESPACE']}/{server}"
    if batch:
        return f"{batch}.{environ.get('SLURM_STEP_ID', '')}/{master}"
    if environ.get("RAY_JOB_ID") and environ.get("MASTER_PORT"):
        return f"ray/{environ['RAY_JOB_ID']}/{master}"
    if environ.get("KUBERNETES_SERVICE_HOST") and _is_service(environ.get("MASTER_ADDR", "")):
        return f"kubernetes/{master}"
    return ""


def _is_service(address: str) -> bool:
    """Whether it is a name that Kubernetes gave, such as `train-x-master-0`, and no number or the machine itself."""
    return address not in ("", "localhost") and not address.replace(".", "").isdigit() and ":" not in address


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((f"{name}={environ[name]}" for name in names if environ.get(name)), "")


def _of_launcher(environ: Mapping[str, str]) -> str:
    found = next((process_id(pid) for pid in _ancestors() if _is_launcher(pid)), "")
    # A daemon of Open MPI may start several jobs, which it numbers.
    return found and f"{found}{environ.get('PMIX_NAMESPACE', '')}"


def _of_torchelastic(environ: Mapping[str, str]) -> str:
    """torchrun called by a program, such as a notebook: the folder with a random name that it makes for a job's errors."""
    found = _ERROR_FILE.fullmatch(environ.get("TORCHELASTIC_ERROR_FILE", ""))
    return hashlib.sha256(found["of_job"].encode()).hexdigest()[:24] if found else ""


def _ancestors() -> Iterator[int]:
    pid = os.getppid()
    for _ in range(_ANCESTORS):
        if pid <= 1:
            return
        yield pid
        try:
            pid = int(_stat(pid)[1])
        except (OSError, IndexError, ValueError):
            return


def _is_launcher(pid: int) -> bool:
    """Whether a process starts one job and ends with it, unlike a shell or a notebook, which may start one after the other."""
    try:
        first, *rest = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:10]
    except OSError:
        return False
    return os.path.basename(first) in _PROGRAMS or _runs_launcher(iter(rest))


def _runs_launcher(words: Iterator[str]) -> bool:
    """Whether the words behind an interpreter name a launcher: `-u -m torch.distributed.run`, or a script."""
    for word in words:
        if word == "-m":
            return next(words, "") in _MODULES
        if word in ("-X", "-W"):
            next(words, "")
        elif not word.startswith("-"):
            return os.path.basename(word) in _PROGRAMS
    return False


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the program's name, which may hold blanks and brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
