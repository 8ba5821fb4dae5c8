"""The runs that this process started, passed to its child processes in an environment variable.

Lightning's `strategy="ddp"` runs the script before it sets any launcher variable, and the script starts its run.
Lightning then runs the script again in child processes, which have a LOCAL_RANK. A child's n-th run of an experiment
is its parent's n-th.
"""

import json
import os
from collections.abc import Mapping
from typing import NamedTuple

VARIABLE = "_RUNFOLD_STARTED"
_MAX_RUNS = 64
"""The size of an environment is limited, and a process that starts thousands of runs must still start children."""


class StartedRun(NamedTuple):
    """A run that a process started."""

    experiment: str
    run_id: str
    attempt: str


def hand_down(experiment: str, run_id: str, attempt: str) -> None:
    """Add a run to the environment of later children of this process."""
    runs = started_by(os.getpid(), os.environ)
    if len(runs) < _MAX_RUNS:
        runs.append(StartedRun(experiment, run_id, attempt))
        os.environ[VARIABLE] = json.dumps([os.getpid(), *runs])


def started_by(pid: int, environ: Mapping[str, str]) -> list[StartedRun]:
    """Return the runs that a process handed down. Empty if the variable is from another process."""
    try:
        owner, *runs = json.loads(environ.get(VARIABLE, "[0]"))
        return [StartedRun(*map(str, run)) for run in runs] if owner == pid else []
    except (ValueError, TypeError):
        return []
