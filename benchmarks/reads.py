"""How fast series are read over HTTP: histories in full, charts, keys. `make bench-reads`.

The points are logged by the SDK, as noisy doubles, and read twice: as the fold left them, and once they are merged.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from machine import describe
from rich.console import Console
from rich.table import Table

import runfold
from runfold_projections.segments.compaction_backlog import QUIET_SECONDS
from runfold_server.native.series.arrow import MEDIA_TYPE as ARROW
from runfold_server.native.series.routes import MEDIA_TYPE as SERIES
from runfold_stack.config.settings import load_settings
from runfold_stack.programs.up import runfold_up

API = "/api/runfold/v1/"
KEYS, RUNS, STEPS = ("loss", "accuracy", "lr"), 50, 10_000
Request = Callable[[int], Awaitable[httpx2.Response]]
Times = dict[str, tuple[float, float, int]]


def load(url: str) -> tuple[str, list[str], str]:
    """A run of a million points, 50 runs of three keys, a run of 100,000 keys; answers their ids."""
    rng = np.random.default_rng(1)
    with runfold.run(experiment="reads", tracking_uri=url) as million:
        for start in range(0, 1_000_000, 50_000):
            million.log_series("loss", np.arange(start, start + 50_000), rng.normal(size=50_000))
    many = []
    for _ in range(RUNS):
        with runfold.run(experiment="reads", tracking_uri=url) as run:
            run.log_rows(KEYS, np.arange(STEPS), rng.normal(size=(STEPS, len(KEYS))))
        many.append(run.id)
    with runfold.run(experiment="reads", tracking_uri=url) as wide:
        names = [f"layers/{n:06}/gradient_norm" for n in range(100_000)]
        for step in range(10):
            wide.log_rows(names, [step], rng.normal(size=(1, len(names))))
            wide.flush()
    return million.id, many, wide.id


async def measure(times: Times, name: str, request: Request, count: int) -> None:
    """Ask so many times, one after the other."""
    found, size = [], 0
    for n in range(-2, count):
        began = time.perf_counter()
        answer = await request(n)
        if n >= 0:
            found.append((time.perf_counter() - began) * 1e3)
        answer.raise_for_status()
        size = len(answer.content)
    found.sort()
    times[name] = statistics.median(found), found[int(len(found) * 0.99)], size


async def questions(client: httpx2.AsyncClient, million: str, many: list[str], wide: str, count: int) -> Times:
    """All of them."""
    times: Times = {}

    async def post(path: str, accept: str, body: Any) -> httpx2.Response:
        return await client.post(API + path, json=body, headers={"accept": accept})

    def chart(**body: Any) -> Request:
        return lambda _: post("series:query", SERIES, body)

    def history(accept: str, **body: Any) -> Request:
        return lambda _: post("series:history", accept, {"runs": [million], "metrics": ["loss"]} | body)

    def zoom(n: int) -> Awaitable[httpx2.Response]:
        start = 37_000 * abs(n) % 900_000
        return post(
            "series:query",
            SERIES,
            {"runs": [million], "metrics": ["loss"], "px": 1000, "range": [start, start + 50_000]},
        )

    def keys(**query: Any) -> Request:
        return lambda _: client.get(f"{API}runs/{wide}/metrics", params=query)

    few = [f"layers/{n:06}/gradient_norm" for n in (7, 50_000)]
    for name, request in (
        ("history of 1 M points, to 1,000 px", chart(runs=[million], metrics=["loss"], px=1000)),
        ("the same, a window of 50,000 steps", zoom),
        ("history of 1 M points in full, Arrow", history(ARROW)),
        ("the same, 10,000 steps of it, Arrow", history(ARROW, steps=[500_000, 509_999])),
        ("history of 1 M points in full, JSON", history("application/json")),
        ("chart of 50 runs x 3 keys x 10,000 points, 1,000 px", chart(runs=many, metrics=list(KEYS), px=1000)),
        (
            "the same, one line per key: mean, sd, n over runs",
            chart(runs=many, metrics=list(KEYS), px=1000, group_by=[]),
        ),
        (
            "the same, smoothed lines",
            chart(runs=many, metrics=list(KEYS), px=1000, smooth={"kind": "tw_ema", "v": 0.6}),
        ),
        ("100,000 keys: first page of 1,000", keys(limit=1000)),
        ("100,000 keys: latest values of a prefix (1,000 keys)", keys(prefix="layers/042", limit=10_000)),
        ("100,000 keys: by a pattern", keys(regex="9999/grad", limit=1000)),
        ("100,000 keys: a chart of two", chart(runs=[wide], metrics=few, px=1000)),
    ):
        await measure(times, name, request, count)
    return times


async def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="requests a measure")
    count = parser.parse_args().count
    machine = describe()
    with tempfile.TemporaryDirectory() as directory:
        async with runfold_up(load_settings(data_dir=Path(directory), port=0)) as up:
            ids = await asyncio.to_thread(load, up.url)
            async with httpx2.AsyncClient(base_url=up.url, timeout=120, trust_env=False) as client:
                fresh = await questions(client, *ids, count)
                await asyncio.sleep(QUIET_SECONDS + 30)
                merged = await questions(client, *ids, count)
    table = Table("measure, ms", "p50", "p99", "merged p50", "p99", "MB", box=None, pad_edge=False)
    for name, (p50, p99, _) in fresh.items():
        q50, q99, size = merged[name]
        table.add_row(name, *(f"{value:.1f}" for value in (p50, p99, q50, q99)), f"{size / 1e6:.2f}")
    print(f"# {machine}")
    Console(width=120).print(table)


if __name__ == "__main__":
    asyncio.run(main())
