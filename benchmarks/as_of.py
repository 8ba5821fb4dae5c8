"""How long an answer about the past takes on a run with 10,000 events, over HTTP. `make bench-as-of`."""

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx2
from machine import describe

from runfold_stack.settings import load_settings
from runfold_stack.up import runfold_up

EVENTS = int(os.environ.get("AS_OF_EVENTS", "10000"))
ASKED = 200
MLFLOW = "/api/2.0/mlflow"
NATIVE = "/api/runfold/v1"


async def write(client: httpx2.AsyncClient) -> tuple[str, list[str]]:
    """A run with that many events of params and tags, and vectors at a hundred moments of its life."""
    body = {"experiment_id": "0", "start_time": 1}
    run = (await client.post(f"{MLFLOW}/runs/create", json=body)).json()["run"]["info"]["run_id"]
    moments = []
    for n in range(EVENTS // 100):
        calls = [
            client.post(f"{MLFLOW}/runs/log-parameter", json={"run_id": run, "key": f"p{n}_{i}", "value": "v" * 20})
            if i % 2
            else client.post(f"{MLFLOW}/runs/set-tag", json={"run_id": run, "key": f"t{i}", "value": f"{n}"})
            for i in range(100)
        ]
        for answer in await asyncio.gather(*calls):
            answer.raise_for_status()
        ends = (await client.get(f"{NATIVE}/positions")).json()["partitions"]
        moments.append(",".join(f"{one['partition']}:{one['end']}" for one in ends))
    return run, moments


async def timed(client: httpx2.AsyncClient, what: str, paths: list[tuple[str, dict[str, Any]]]) -> None:
    """Ask one after the other; print the median and the slowest in a hundred."""
    taken = []
    for path, query in paths:
        began = time.perf_counter()
        answer = await client.get(path, params=query)
        taken.append((time.perf_counter() - began) * 1000)
        answer.raise_for_status()
    taken.sort()
    print(f"{what:56} p50 {statistics.median(taken):7.1f} ms   p99 {taken[int(len(taken) * 0.99)]:7.1f} ms")


async def main() -> None:
    """Start everything, write the run, ask."""
    print(f"# {describe()}; a run with {EVENTS:,} events, half of them params")
    with tempfile.TemporaryDirectory(prefix="runfold-as-of-") as directory:
        settings = load_settings(data_dir=Path(directory), port=0)
        async with (
            runfold_up(settings) as up,
            httpx2.AsyncClient(base_url=up.url, timeout=60, trust_env=False) as client,
        ):
            run, moments = await write(client)
            some = Random(1).choices(moments, k=ASKED)
            get, who = f"{MLFLOW}/runs/get", {"run_id": run}
            await timed(client, "the run, now", [(get, who)] * 50)
            await timed(client, "the run as of a vector", [(get, who | {"as_of": at}) for at in some])
            ms = [int(time.time() * 1000) - Random(n).randint(0, 5000) for n in range(50)]
            await timed(client, "the run as of a time (the end of its life)", [(get, who | {"as_of": at}) for at in ms])
            events = f"{NATIVE}/runs/{run}/events"
            await timed(
                client, "a page of 100 of its timeline", [(events, {"as_of": at, "order": "newest"}) for at in some]
            )
            why = f"{NATIVE}/runs/{run}/why"
            await timed(client, "why a tag has its value (folds the whole story)", [(why, {"field": "tags.t0"})] * 20)


if __name__ == "__main__":
    asyncio.run(main())
