"""Programs of `tests/frameworks`, run by the Python of `make test-frameworks`, which has what they need."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient

ROOT = Path(__file__).parents[3]
BENCH = ROOT / ".bench"
BIN = BENCH / "frameworks" / "bin"
PYTHON = BIN / "python"
TRAININGS = ROOT / "tests" / "frameworks" / "trainings"
PATIENCE_SECONDS = 400
"""Importing PyTorch and its friends alone takes half a minute on two busy cores."""


def trained(uri: str, words: Sequence[str | Path], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A training, or its launcher with it, run to its good end."""
    assert PYTHON.exists(), "run this with `make test-frameworks`"
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTEST_"))},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(TRAININGS), "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": uri, "RUNFOLD_TRACKING_URI": uri, "HF_HUB_OFFLINE": "1", **variables,
    }  # fmt: skip
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done


def experiment_id_of(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment that exists."""
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return str(experiment.experiment_id)


def complaints(said: str) -> list[str]:
    """What of a training's output tells of trouble with the tracker."""
    return [
        line
        for line in said.splitlines()
        if re.search(r"Traceback|runfold: |MlflowException|[Ff]ailed to (log|end|save)", line)
    ]
