"""The context of this process from its launcher's environment: node, rank, attempt, and the shared run."""

import hashlib
import logging
import os
import re
import socket
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from runfold.errors import SdkError
from runfold_schemas.codec.envelope import MAX_RANK
from runfold_schemas.events.base import RUN_ID_PATTERN

from .child_environment import started_by
from .job_id import job_without_id, process_id

_log = logging.getLogger("runfold")
RUN_ID_VARIABLE = "RUNFOLD_RUN_ID"
ATTEMPT_VARIABLE = "RUNFOLD_ATTEMPT"
_MEANINGLESS_IDS = frozenset({"", "0", "-", "none", "null", "nil", "nan", "undefined", "default", "false"})
_REMEDY = (
    f"set {RUN_ID_VARIABLE} to one id for all processes of the job, or pass run_id; "
    "RUNFOLD_LAUNCHER=off gives every process its own run"
)


@dataclass(frozen=True, slots=True)
class ProcessContext:
    """The identity of a writing process."""

    node: str
    pid: int
    run_id: str | None = None
    """Id of the run to join; None for a new run."""
    rank: int | None = None
    """None without a launcher: the process is the only one."""
    world_size: int | None = None
    attempt: str = ""
    """The launcher's id of the attempt, an opaque string."""
    shared: bool = True
    """Whether all processes of the same start of the job have the same `attempt`."""
    beside: bool = False
    """The process is not part of the job, such as one that evaluates checkpoints.

    It has no attempt, and its points count for the newest one.
    """


@dataclass(frozen=True, slots=True)
class _LauncherVariables:
    """The variables of one launcher. `job` is an id that all processes of the job share."""

    launcher: str
    job: str
    rank: int | None
    world_size: int | None
    attempt: str
    shared: bool = True


def read_process_context(
    experiment: str, run_id: str | None = None, environ: Mapping[str, str] | None = None
) -> ProcessContext:
    """Derive the context from the environment.

    A run id that comes from the launcher is specific to the experiment, and the n-th run of a process joins the n-th
    runs of the others. SdkError if a run id is meaningless, or a RUNFOLD_* variable is not a number.
    """
    environ = os.environ if environ is None else environ
    launched = None if _is_off(environ) else _read_launcher(environ)
    if run_id is not None:
        run_id = _checked(run_id, "run_id")
    elif RUN_ID_VARIABLE in environ:
        run_id = _checked(environ[RUN_ID_VARIABLE], RUN_ID_VARIABLE)
    elif launched is not None:
        run_id = _job_run_id(launched, experiment, environ)
        if run_id is None:
            # A process with its own run has no rank, because only rank 0 ends a run.
            launched = None
    attempt = environ.get(ATTEMPT_VARIABLE)
    return ProcessContext(
        socket.gethostname() or "node",
        os.getpid(),
        run_id,
        _number(environ, "RUNFOLD_RANK", launched.rank if launched else None),
        _number(environ, "RUNFOLD_WORLD_SIZE", launched.world_size if launched else None),
        attempt if attempt is not None else _attempt(launched, run_id, environ) if launched else "",
        attempt is not None or launched is None or launched.shared,
        attempt == "",
    )


def _read_launcher(environ: Mapping[str, str]) -> _LauncherVariables | None:
    """Read the variables of the innermost launcher: torchrun under SLURM counts as torchrun."""
    rank, world = _launcher_number(environ, "RANK"), _launcher_number(environ, "WORLD_SIZE")
    slurm = _slurm_attempt(environ)
    if "TORCHELASTIC_RUN_ID" in environ:
        job = environ["TORCHELASTIC_RUN_ID"]
        if is_meaningless(job):
            job = job_without_id(environ, one_node=_launcher_number(environ, "LOCAL_WORLD_SIZE") == world)
        restarts = environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        attempt = "-".join(part for part in (slurm, "torchelastic", job, restarts) if part)
        return _LauncherVariables("TORCHELASTIC_RUN_ID", job, rank, world, attempt)
    tasks = _launcher_number(environ, "SLURM_STEP_NUM_TASKS", _launcher_number(environ, "SLURM_NTASKS"))
    by_srun = "SLURM_PROCID" in environ and tasks is not None and tasks > 1
    for ranks, sizes, local_sizes in _RANKS:
        found, size = _launcher_number(environ, ranks), _launcher_number(environ, sizes)
        if found is not None and size is not None and not (by_srun and ranks == "PMI_RANK"):
            job = "" if by_srun else job_without_id(environ, one_node=_launcher_number(environ, local_sizes) == size)
            job = job or (_slurm_job(environ) if by_srun else "")
            return _LauncherVariables(f"{ranks} and {sizes}", job, found, size, slurm or _short_id(job))
    if by_srun:
        return _LauncherVariables(
            "SLURM_JOB_ID", _slurm_job(environ), _launcher_number(environ, "SLURM_PROCID"), tasks, slurm
        )
    if "JOB_COMPLETION_INDEX" in environ:
        # The pods of an indexed Job are named <job>-<index>. No variable contains the Job's name.
        index = environ["JOB_COMPLETION_INDEX"]
        name = environ.get("HOSTNAME", "")
        job = name.removesuffix(f"-{index}") if name.endswith(f"-{index}") else ""
        attempt = environ.get("POD_UID", "")
        return _LauncherVariables(
            "JOB_COMPLETION_INDEX", job, _launcher_number(environ, "JOB_COMPLETION_INDEX"), None, attempt, False
        )
    local = _launcher_number(environ, "LOCAL_RANK")
    if local is not None and "NODE_RANK" in environ and world is not None and world > 1:
        job = process_id(_starter(environ))
        return _LauncherVariables(_CHILD_VARIABLES, job, local, world, _short_id(job))
    return None


_RANKS = (
    ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
    ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
)
_CHILD_VARIABLES = "LOCAL_RANK and NODE_RANK"


def _starter(environ: Mapping[str, str]) -> int:
    """Return the process that started the others on this node. With Lightning that is rank 0 itself."""
    return os.getpid() if environ["LOCAL_RANK"] == "0" else os.getppid()


def _slurm_job(environ: Mapping[str, str]) -> str:
    job = environ.get("SLURM_JOB_ID", "")
    return (
        job
        if is_meaningless(job)
        else f"{environ.get('SLURM_CLUSTER_NAME', '')}/{job}.{environ.get('SLURM_STEP_ID', '')}"
    )


def _short_id(job: str) -> str:
    return f"job-{hashlib.sha256(job.encode()).hexdigest()[:16]}" if job else ""


def _attempt(launched: _LauncherVariables, run_id: str | None, environ: Mapping[str, str]) -> str:
    if launched.launcher == _CHILD_VARIABLES:
        # The parent started its run without a launcher and generated the attempt's id.
        for run in started_by(_starter(environ), environ):
            if run.run_id == run_id:
                return run.attempt
    return launched.attempt


def _slurm_attempt(environ: Mapping[str, str]) -> str:
    job = environ.get("SLURM_JOB_ID", "")
    return f"slurm-{job}-{environ.get('SLURM_RESTART_COUNT', '0')}" if job else ""


_runs: Counter[tuple[str, str, str]] = Counter()
_counting = threading.Lock()


def _job_run_id(launched: _LauncherVariables, experiment: str, environ: Mapping[str, str]) -> str | None:
    """Return the id of the run that the job shares. None if the process gets its own run."""
    if is_meaningless(launched.job):
        if launched.world_size != 1:
            _warn_once(
                f"{launched.launcher} is set, so this process is one of several, but its job can't be identified. "
                f"It writes its own run. To get one run for the job, {_REMEDY}"
            )
        return None
    before = started_by(_starter(environ), environ) if launched.launcher == _CHILD_VARIABLES else []
    handed = [run.run_id for run in before if run.experiment == experiment]
    key = (launched.launcher, launched.job, experiment)
    with _counting:
        if launched.launcher == _CHILD_VARIABLES and launched.rank == 0 and key not in _runs:
            # Count the runs that it started before the launcher's variables were set.
            _runs[key] = len(handed)
        _runs[key] += 1
        number = _runs[key]
    if number <= len(handed):
        return handed[number - 1]
    return hashlib.sha256("\0".join((*key, str(number))).encode()).hexdigest()[:32]


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        _log.warning("runfold: %s", message)


def is_meaningless(run_id: str) -> bool:
    """Return whether an id is a placeholder, such as "none", that would turn many jobs into one run."""
    return run_id.strip().lower() in _MEANINGLESS_IDS


def _checked(run_id: str, source: str) -> str:
    if not isinstance(run_id, str) or is_meaningless(run_id):
        raise SdkError(f"{source}={run_id!r} is not a usable run id: {_REMEDY}")
    if not re.fullmatch(RUN_ID_PATTERN, run_id):
        raise SdkError(f"{source}={run_id!r} must match {RUN_ID_PATTERN}")
    return run_id


def _is_off(environ: Mapping[str, str]) -> bool:
    text = environ.get("RUNFOLD_LAUNCHER", "")
    if text not in ("", "off", "auto"):
        raise SdkError(f"RUNFOLD_LAUNCHER={text!r} must be auto or off")
    return text == "off"


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int | None:
    text = environ.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()) or int(text) > MAX_RANK:
        raise SdkError(f"{name}={text!r} must be a whole number from 0 to {MAX_RANK}")
    return int(text)


def _launcher_number(environ: Mapping[str, str], name: str, default: int | None = None) -> int | None:
    """Read a launcher's variable. An invalid rank, such as -1, is ignored and must not end the training."""
    text = environ.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and int(text) <= MAX_RANK else default
