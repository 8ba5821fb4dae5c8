"""How the two programs that a stack runs beside the services, server and worker, are started as processes."""

import os
import sys

from .settings import Settings

DEFAULT_PORT = 5000


def command(name: str) -> list[str]:
    """Command line of one of our programs in a process of its own."""
    return [sys.executable, "-m", "runfold_stack", name]


def environment(settings: Settings) -> dict[str, str]:
    """The environment of such a process: ours, with the settings as they were resolved."""
    return {**os.environ, **settings.variables(), "PYTHONUNBUFFERED": "1"}
