"""The public names, the cost of the import, and generated names."""

from __future__ import annotations

import inspect
import random
import re
import subprocess
import sys
from typing import Any

import runfold
from runfold.names import ADJECTIVES, ANIMALS, run_name


def test_names_are_readable_and_follow_their_source_of_chance() -> None:
    rng = random.Random(1)
    names = [run_name(rng) for _ in range(2000)]
    assert all(re.fullmatch(r"[a-z]+-[a-z]+-\d{1,3}", name) for name in names)
    assert len(set(names)) > 1990
    assert names[:5] == [run_name(r) for r in [random.Random(1)] for _ in range(5)]
    for words in (ADJECTIVES, ANIMALS):
        assert len(set(words)) == len(words) > 120
    assert max(map(len, ADJECTIVES)) + max(map(len, ANIMALS)) + len("--999") <= 20


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
