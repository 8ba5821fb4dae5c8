"""Where this process runs, as its launcher's environment says it: node, rank, attempt, and the run that it shares with others."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Who writes. `rank` None: the launcher names none, so this process is alone. `attempt` is the launcher's, opaque."""

    node: str
    pid: int
    run_id: str | None = None
    rank: int | None = None
    world_size: int | None = None
    attempt: str = ""


def where_we_run(experiment: str, environ: Mapping[str, str] | None = None) -> Place:
    """Read the environment; SdkError: it names a run by an id that says nothing."""
    environ = os.environ if environ is None else environ
    return Place(socket.gethostname() or "node", os.getpid())
