"""Ids of jobs whose launcher does not provide one.

An id must not recur in a later job on the same machine, or two trainings would become one run. A fixed port would
recur, so on a single node the id is derived from the launcher's own process, which survives restarts of its workers.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_LAUNCHER_PROGRAMS = frozenset(
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
_LAUNCHER_MODULES = frozenset(
    [
        "torch.distributed.run",
        "torch.distributed.launch",
        "accelerate.commands.launch",
        "accelerate.commands.accelerate_cli",
        "deepspeed.launcher.launch",
        "lightning.fabric.cli",
    ]
)
_ERROR_FILE = re.compile(r"(?P<job_directory>.+)/attempt_\d+/\d+/error\.json")
_MAX_ANCESTORS = 8
"""How far up the process tree a launcher is searched."""
_BATCH_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
_SERVICE_VARIABLES = ("TRAINING_JOB_NAME", "SM_TRAINING_JOB_NAME", "AZUREML_RUN_ID", "CLOUD_ML_JOB_ID")


def job_without_id(environ: Mapping[str, str], *, one_node: bool) -> str:
    """Return an id that only this job's processes derive; empty if nothing distinguishes the job from others."""
    found = _first(environ, _SERVICE_VARIABLES)
    if found or not one_node:
        return found or _cluster_job(environ)
    return _launcher_process(environ) or _torchelastic_job(environ) or _cluster_job(environ)


def process_id(pid: int) -> str:
    """Return an id of a process that is unique across nodes and time; empty if /proc is not available."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        started = _stat(pid)[19]
    except (OSError, IndexError):
        return ""
    return hashlib.sha256(f"{boot}/{pid}/{started}".encode()).hexdigest()[:24]


def _cluster_job(environ: Mapping[str, str]) -> str:
    """Return the id of a job on several nodes: its scheduler's id and the rendezvous address."""
    master = f"{environ.get('MASTER_ADDR', '')}:{environ.get('MASTER_PORT', '')}"
    batch, server = _first(environ, _BATCH_VARIABLES), environ.get("OMPI_MCA_orte_hnp_uri", "")
    if environ.get("PMIX_NAMESPACE") and (batch or server):
        # Open MPI names a job by a host and a process id, which recur, so the name alone is not enough.
        return f"{batch}/{environ['PMIX_NAMESPACE']}/{server}"
    if batch:
        return f"{batch}.{environ.get('SLURM_STEP_ID', '')}/{master}"
    if environ.get("RAY_JOB_ID") and environ.get("MASTER_PORT"):
        return f"ray/{environ['RAY_JOB_ID']}/{master}"
    if environ.get("KUBERNETES_SERVICE_HOST") and _is_service(environ.get("MASTER_ADDR", "")):
        return f"kubernetes/{master}"
    return ""


def _is_service(address: str) -> bool:
    """Return whether an address is a service name of Kubernetes, such as `train-x-master-0`."""
    return address not in ("", "localhost") and not address.replace(".", "").isdigit() and ":" not in address


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((f"{name}={environ[name]}" for name in names if environ.get(name)), "")


def _launcher_process(environ: Mapping[str, str]) -> str:
    found = next((process_id(pid) for pid in _ancestors() if _is_launcher(pid)), "")
    # A daemon of Open MPI may start several jobs, and numbers them.
    return found and f"{found}{environ.get('PMIX_NAMESPACE', '')}"


def _torchelastic_job(environ: Mapping[str, str]) -> str:
    """Return an id for a torchrun started by a program, such as a notebook: its randomly named directory for errors."""
    found = _ERROR_FILE.fullmatch(environ.get("TORCHELASTIC_ERROR_FILE", ""))
    return hashlib.sha256(found["job_directory"].encode()).hexdigest()[:24] if found else ""


def _ancestors() -> Iterator[int]:
    pid = os.getppid()
    for _ in range(_MAX_ANCESTORS):
        if pid <= 1:
            return
        yield pid
        try:
            pid = int(_stat(pid)[1])
        except (OSError, IndexError, ValueError):
            return


def _is_launcher(pid: int) -> bool:
    """Return whether a process is a launcher, which starts one job and ends with it, unlike a shell or a notebook."""
    try:
        first, *rest = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:10]
    except OSError:
        return False
    return os.path.basename(first) in _LAUNCHER_PROGRAMS or _runs_launcher(iter(rest))


def _runs_launcher(words: Iterator[str]) -> bool:
    """Return whether an interpreter's arguments run a launcher, as a script or like `-u -m torch.distributed.run`."""
    for word in words:
        if word == "-m":
            return next(words, "") in _LAUNCHER_MODULES
        if word in ("-X", "-W"):
            next(words, "")
        elif not word.startswith("-"):
            return os.path.basename(word) in _LAUNCHER_PROGRAMS
    return False


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the program's name, which may contain blanks and parentheses."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
