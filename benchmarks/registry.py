"""Compare MLflow's model registry API on Runfold and on MLflow's own server: same Postgres, same clients.

`make bench-registry`. Each client works on a model of its own. Rates are compared with the better of MLflow's
`--workers 1` and its default, measured in turn. The target is at least five times as many writes by 8 clients.
"""

import argparse
import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path

import mlflow_server
from clients import REGISTRY_KINDS, load
from machine import describe
from rich.console import Console
from tracking import Results

from runfold_stack.config.settings import load_settings
from runfold_stack.programs.up import runfold_up

CACHE = Path(__file__).parents[1] / ".bench"
WARM_UP = 1.0
"""Seconds: a Java machine, a planner's caches and a pool of connections are cold at first, and the first kind would pay
for them.
"""


def measure(out: Results, ours: str, one: str, default: str, seconds: float, clients: int) -> None:
    """Every kind of request: latency of one client, and the rate of many, after a second of each on each server."""
    for kind in REGISTRY_KINDS:
        for url in (ours, one, default):
            load(url, kind, clients, WARM_UP)
    for kind in REGISTRY_KINDS:
        out.latency(f"{kind}, 1 client", load(ours, kind, 1, seconds), load(one, kind, 1, seconds))
        mine = load(ours, kind, clients, seconds)
        theirs = max(load(url, kind, clients, seconds).rate for url in (one, default))
        out.rate(f"{kind}, {clients} clients", mine.rate, theirs)


async def run(folder: Path, given: argparse.Namespace) -> Results:
    """Measure everything once."""
    out = Results()
    bin_folder = await asyncio.to_thread(mlflow_server.environment, CACHE)
    async with runfold_up(load_settings(data_dir=folder / "data", port=0)) as up:
        uri = await mlflow_server.make_database(up.postgres)
        with mlflow_server.server(bin_folder, uri, folder / "artifacts", workers=1):
            pass
        with ExitStack() as stack:
            one = stack.enter_context(mlflow_server.server(bin_folder, uri, folder / "one", workers=1))
            default = stack.enter_context(mlflow_server.server(bin_folder, uri, folder / "default", workers=None))
            await asyncio.to_thread(measure, out, up.url, one.url, default.url, given.seconds, given.clients)
    return out


async def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=4.0, help="per measure")
    arguments.add_argument("--clients", type=int, default=8)
    given = arguments.parse_args()
    head = f"# {describe()}"
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="runfold-bench-") as folder:
        out = await run(Path(folder), given)
    console = Console(width=140)
    console.print(head)
    console.print(out.table)


if __name__ == "__main__":
    asyncio.run(main())
