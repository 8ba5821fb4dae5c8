"""What `import runfold` offers, and what it loads."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Any

import runfold


def test_the_public_surface() -> None:
    assert runfold.__all__ == [
        "NotConnected",
        "Run",
        "RunfoldError",
        "SdkError",
        "ServerRefused",
        "__version__",
        "fork",
        "promote",
        "run",
    ]
    assert re.match(r"\d+\.\d+", runfold.__version__)
    assert list(inspect.signature(runfold.run).parameters) == [
        "experiment", "params", "name", "tags", "tracking_uri", "mode", "run_id", "start_step", "on_rejection",
    ]  # fmt: skip
    assert {name for name in dir(runfold.Run) if not name.startswith("_")} == {
        "experiment_id", "finish", "flush", "id", "log", "log_params", "log_rows", "log_series",
        "refused", "rewind", "save", "set_tags", "spool", "url",
    }  # fmt: skip
    for kind in (runfold.NotConnected, runfold.ServerRefused):
        assert issubclass(kind, runfold.SdkError)


def test_the_import_is_light() -> None:
    heavy = "aiokafka asyncpg asyncio fastavro httpx2 numpy pydantic structlog ssl"
    code = f"import sys, runfold; print(*(name for name in {heavy.split()} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_a_run_needs_no_numpy_and_no_kafka(server: Any) -> None:
    code = (
        "import sys, runfold\n"
        "with runfold.run() as run: run.log({'a': 1})\n"
        "print(*(name for name in ('aiokafka', 'numpy', 'structlog') if name in sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
    assert len(server.rows()) == 1
