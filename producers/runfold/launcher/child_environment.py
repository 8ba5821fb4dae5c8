"""The runs that this process started, told to the processes that it starts, in the environment.

Lightning's `strategy="ddp"` runs the script, and the script's run begins, before there is a launcher's variable; then it runs the script again in
children, which have a LOCAL_RANK. Their n-th run of an experiment is their parent's n-th.
"""

import json
import os
from collections.abc import Mapping
from typing import NamedTuple

VARIABLE = "_RUNFOLD_STARTED"
_MOST = 64
"""A process that starts thousands of runs must still be able to start others: an environment is bounded."""


class Started(NamedTuple):
    """One run that was started."""

    experiment: str
    run_id: str
    attempt: str


def hand_down(experiment: str, run_id: str, attempt: str) -> None:
    """Tell later children of this process."""
    runs = started_by(os.getpid(), os.environ)
    if len(runs) < _MOST:
        runs.append(Started(experiment, run_id, attempt))
        os.environ[VARIABLE] = json.dumps([os.getpid(), *runs])


def started_by(pid: int, environ: Mapping[str, str]) -> list[Started]:
    """What a process handed down; nothing if it was another one."""
    try:
        owner, *runs = json.loads(environ.get(VARIABLE, "[0]"))
        return [Started(*map(str, run)) for run in runs] if owner == pid else []
    except (ValueError, TypeError):
        return []
