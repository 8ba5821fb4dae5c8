"""Measure the shortest path, writes, reads and folds through every room, on the embedded stack.

`make bench-spine`.
"""

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
from machine import describe
from rich.console import Console
from rich.table import Table

import runfold
from runfold_projections.core.projection import Projection
from runfold_projections.generations.generations import create_generation
from runfold_projections.postgres.connection import open_pool
from runfold_projections.postgres.read_transaction import checkpoints, has_reached, read_transaction
from runfold_stack.config.settings import load_settings
from runfold_stack.programs.up import Up, runfold_up

API = "/api/2.0/mlflow"
table = Table(box=None, pad_edge=False)
for title in ("measure", "p50 ms", "p99 ms", "per second"):
    table.add_column(title, justify="left" if title == "measure" else "right")

Request = Callable[[int], Awaitable[object]]


async def measure(name: str, request: Request, count: int, clients: int = 1, worth: int = 1) -> None:
    """Send requests from so many clients at once; `worth` is what one counts for in the rate."""
    for n in range(5):
        await request(-1 - n)
    times: list[float] = []
    numbers = iter(range(count))

    async def client() -> None:
        for n in numbers:
            began = time.perf_counter()
            await request(n)
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    rate = count * worth / (time.perf_counter() - began)
    times.sort()
    p50, p99 = statistics.median(times) * 1e3, times[int(len(times) * 0.99)] * 1e3
    table.add_row(name, f"{p50:.1f}", f"{p99:.1f}", f"{rate:,.0f}")


async def requests(client: httpx2.AsyncClient) -> str:
    """MLflow's calls; answers the id of the experiment."""

    async def post(path: str, body: object) -> dict[str, object]:
        answer = await client.post(f"{API}/{path}", json=body)
        answer.raise_for_status()
        return dict(answer.json())

    experiment = str((await post("experiments/create", {"name": "bench"}))["experiment_id"])
    created = await post("runs/create", {"experiment_id": experiment, "start_time": 1})
    run_id = created["run"]["info"]["run_id"]  # type: ignore[index]

    async def create_run(n: int) -> None:
        await post("runs/create", {"experiment_id": experiment, "start_time": n})

    async def log_metric(n: int) -> None:
        await post("runs/log-metric", {"run_id": run_id, "key": "m", "value": n, "timestamp": abs(n), "step": n})

    async def log_param(n: int) -> None:
        await post("runs/log-parameter", {"run_id": run_id, "key": f"p{n}", "value": "1"})

    async def log_batch(n: int) -> None:
        points = [
            {"key": "b", "value": random.random(), "timestamp": abs(n), "step": n * 1000 + i} for i in range(1000)
        ]
        await post("runs/log-batch", {"run_id": run_id, "metrics": points})

    async def get_run(n: int) -> None:
        (await client.get(f"{API}/runs/get", params={"run_id": run_id})).raise_for_status()

    async def history(n: int) -> None:
        query = {"run_id": run_id, "metric_key": "b", "max_results": 25_000}
        (await client.get(f"{API}/metrics/get-history", params=query)).raise_for_status()

    await measure("create_run", create_run, 300)
    await measure("get run (strong)", get_run, 300)
    await measure("log_param (waits for the fold)", log_param, 200)
    await measure("log_metric, 1 client", log_metric, 300)
    await measure("log_metric, 8 clients", log_metric, 2000, 8)
    await measure("log-batch of 1,000 points, 1 client, points", log_batch, 60, 1, 1000)
    await measure("log-batch of 1,000 points, 4 clients, points", log_batch, 120, 4, 1000)
    await measure("first history page, 25,000 of 190,000 points", history, 10)
    return experiment


def sdk(url: str, calls: int) -> None:
    """`run.log` of 100 random scalars, until all is acknowledged."""
    with runfold.run(experiment="bench", tracking_uri=url) as run:
        rows = [{f"layer{i}/norm": random.random() for i in range(100)} for _ in range(1000)]
        began = time.perf_counter()
        for n in range(calls):
            run.log(rows[n % 1000])
        logged = time.perf_counter() - began
        run.flush()
        sent = time.perf_counter() - began
    table.add_row("run.log of 100 scalars: in the training thread, points", "", "", f"{calls * 100 / logged:,.0f}")
    table.add_row("run.log of 100 scalars: acknowledged over HTTP, points", "", "", f"{calls * 100 / sent:,.0f}")


async def rebuild(up: Up, namespace: str) -> None:
    """A new generation of runs and of metrics, folded from the start of the log by the running worker."""
    async with open_pool(up.postgres, namespace, application="benchmark") as pool:
        async with read_transaction(pool) as connection:
            want = await checkpoints(connection)
            points = await connection.fetchval("SELECT sum(points) FROM segment")
        for projection, what, amount in (
            (
                Projection.RUNS,
                "events",
                sum(end for where, end in want.items() if where.topic is Projection.RUNS.topic),
            ),
            (Projection.METRICS, "points", points),
        ):
            async with pool.acquire() as connection, connection.transaction():
                generation = await create_generation(connection, namespace, projection)
            mine = {where: end for where, end in want.items() if where.topic is projection.topic}
            async with open_pool(up.postgres, generation.schema_name, application="benchmark") as built:
                began = 0.0
                while True:
                    async with read_transaction(built) as connection:
                        have = await checkpoints(connection)
                    began = began or (time.perf_counter() if have else 0.0)
                    if has_reached(have, mine):
                        break
                    await asyncio.sleep(0.005)
            seconds = time.perf_counter() - began
            table.add_row(f"rebuild of {projection}, {what}, one worker", "", "", f"{amount / seconds:,.0f}")


async def main() -> None:
    """Run everything once and print one table."""
    print(f"# {describe()}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="runfold-bench-") as directory:
        settings = load_settings(data_dir=Path(directory), port=0)
        began = time.perf_counter()
        async with runfold_up(settings) as up:
            table.add_row("first start of everything, s", f"{time.perf_counter() - began:.1f}", "", "")
            async with httpx2.AsyncClient(base_url=up.url, timeout=60, trust_env=False) as client:
                await requests(client)
            await asyncio.to_thread(sdk, up.url, 20_000)
            await asyncio.sleep(2)
            await rebuild(up, settings.namespace)
        began = time.perf_counter()
        async with runfold_up(settings):
            table.add_row("second start of everything, s", f"{time.perf_counter() - began:.1f}", "", "")
    Console(width=110).print(table)


if __name__ == "__main__":
    asyncio.run(main())
