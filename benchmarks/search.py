"""Measure runs/search over HTTP, and what the same search takes in SQL alone.

`make bench-search`. The runs are inserted into the read models by SQL, not through the log: 10 metrics, 10 params and 3
tags each, with the last metric and param missing on 30 % of them.
"""

import argparse
import asyncio
import hashlib
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from machine import describe
from rich.console import Console
from rich.table import Table

from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import open_connection, open_pool
from runfold_projections.postgres.read_transaction import read_transaction
from runfold_projections.runs.queries import ViewType, search_runs
from runfold_server.mlflow.answers.runs import encode_run
from runfold_stack.config.settings import load_settings
from runfold_stack.programs.up import Up, runfold_up

API = "/api/2.0/mlflow"
GIVE_UP = 20.0
"""Seconds after which SQL is told to stop."""
START = 1_700_000_000_000
SEED = (
    """
    INSERT INTO experiment (experiment_id, workspace, name, artifact_location, lifecycle_stage, created_ms,
        updated_ms, created_by)
    SELECT $1, 'default', 'bench ' || $2::integer, 'mlflow-artifacts:/' || $1::bigint, 'active', 1, 1, uuidv7()
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO run (run_id, partition, experiment_id, name, user_id, status, start_ms, end_ms, lifecycle_stage,
        artifact_uri, created_by)
    SELECT md5($1::bigint || '/' || n), n % 8, $1, 'run-' || n, 'user' || n % 7,
           (ARRAY['FAILED', 'RUNNING', 'FINISHED', 'FINISHED', 'FINISHED'])[n % 5 + 1],
           1700000000000 + n * 1000, 1700000600000 + n * 1000, CASE n % 100 WHEN 7 THEN 'deleted' ELSE 'active' END,
           'mlflow-artifacts:/' || $1 || '/' || md5($1::bigint || '/' || n) || '/artifacts', uuidv7()
    FROM generate_series(1, $2::integer) n
    """,
    """
    INSERT INTO metric_block (run_id, block, keys, numbers)
    SELECT md5($1::bigint || '/' || n), 0, array_agg('m' || k ORDER BY k),
           string_agg(float8send(CASE WHEN n % 97 = 3 THEN 'NaN' ELSE random() END), ''::bytea ORDER BY k)
           || string_agg(float8send(0), ''::bytea) || string_agg(float8send(1), ''::bytea)
           || int8send(100) || int8send(1700000000000)
    FROM generate_series(1, $2::integer) n, generate_series(0, 9) k WHERE k <> 9 OR n % 10 < 7
    GROUP BY n
    """,
    """
    INSERT INTO run_param (run_id, key, value)
    SELECT md5($1::bigint || '/' || n), 'p' || k,
        CASE k WHEN 0 THEN (n % 20)::text WHEN 1 THEN md5(n::text) ELSE (n % (10 * k))::text END
    FROM generate_series(1, $2::integer) n, generate_series(0, 9) k WHERE k <> 9 OR n % 10 < 7
    """,
    """
    INSERT INTO run_tag (run_id, key, value)
    SELECT md5($1::bigint || '/' || n), t.k, t.v
    FROM generate_series(1, $2::integer) n,
         LATERAL (VALUES ('mlflow.runName', 'run-' || n), ('mlflow.user', 'user' || n % 7), ('team',
             'team-' || n % 13)) t (k, v)
    """,
)


@dataclass(frozen=True)
class Asked:
    """One search; `offset` and `limit` in runs."""

    filter: str = ""
    order_by: Sequence[str] = ()
    view: ViewType = ViewType.ACTIVE_ONLY
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True)
class Shape:
    """A kind of search: every request asks for other constants, so that no answer can be one that was given before."""

    name: str
    ask: Callable[[random.Random, int, int], Asked]
    """From a random source, the number of runs, and the experiment's id."""


def _some_ids(rng: random.Random, runs: int, experiment: int) -> str:
    ids = (hashlib.md5(f"{experiment}/{rng.randint(1, runs)}".encode()).hexdigest() for _ in range(100))
    return ", ".join(f"'{run_id}'" for run_id in ids)


SHAPES = (
    Shape("newest runs, no filter", lambda r, n, e: Asked()),
    Shape(
        "metric and param filter, by a metric",
        lambda r, n, e: Asked(
            f"metrics.m1 > {r.random() / 2} AND params.p2 = '{r.randint(0, 19)}'", ["metrics.m2 DESC"]
        ),
    ),
    Shape(
        "the same, page of 1,000",
        lambda r, n, e: Asked(
            f"metrics.m1 > {r.random() / 2} AND params.p2 != '{r.randint(0, 19)}'", ["metrics.m2 DESC"], limit=1000
        ),
    ),
    Shape("no filter, by a metric", lambda r, n, e: Asked("", [f"metrics.m{r.randint(2, 4)} DESC"])),
    Shape("no match", lambda r, n, e: Asked(f"metrics.m1 > {2 + r.random()}", ["metrics.m2 DESC"])),
    Shape(
        "filter against order: newest of the oldest few",
        lambda r, n, e: Asked(
            f"start_time < {START + r.randint(50, 150) * 1000} AND metrics.m1 > 0.1", ["start_time DESC"]
        ),
    ),
    Shape(
        "missing values, two orders",
        lambda r, n, e: Asked(f"metrics.m1 > {r.random() * 0.9}", ["metrics.m9 ASC", "params.p9 DESC"]),
    ),
    Shape(
        "IS NULL, by what is missing",
        lambda r, n, e: Asked(f"params.p9 IS NULL AND metrics.m1 > {r.random() * 0.9}", ["metrics.m9"]),
    ),
    Shape("LIKE '%x%' over distinct values", lambda r, n, e: Asked(f"params.p1 LIKE '%{r.randbytes(2).hex()}%'")),
    Shape(
        "ILIKE 'x%' over distinct values",
        lambda r, n, e: Asked(f"tags.`mlflow.runName` ILIKE 'RUN-%{r.randint(10, 99)}'", ["metrics.m2"]),
    ),
    Shape("100 run ids", lambda r, n, e: Asked(f"run_id IN ({_some_ids(r, n, e)})")),
    Shape(
        "100 clauses",
        lambda r, n, e: Asked(" AND ".join(f"metrics.m{k % 10} >= {-r.random()}" for k in range(100)), ["metrics.m2"]),
    ),
    Shape(
        "deleted runs, by a text",
        lambda r, n, e: Asked(f"metrics.m1 > {r.random() * 0.9}", ["params.p1"], ViewType.DELETED_ONLY),
    ),
    Shape("any page, by a metric", lambda r, n, e: Asked("", ["metrics.m2 DESC"], offset=r.randint(1, n * 9 // 10))),
    Shape("the last page, by a metric", lambda r, n, e: Asked("", ["metrics.m2 DESC"], offset=n * 99 // 100 - 50)),
)


async def seed(dsn: str, namespace: str, experiment: int, runs: int) -> None:
    """Fill an experiment, unless it is there already."""
    async with open_connection(dsn, namespace, application="seed", timeout=1800) as connection:
        # A change of the tables' layout leaves the experiment, but none of its runs: they are in no log.
        if await connection.fetchval("SELECT count(*) FROM run WHERE experiment_id = $1", experiment) == runs:
            return
        async with connection.transaction():
            for statement in SEED:
                await connection.execute(statement, experiment, runs)
        for projection in (Projection.RUNS, Projection.METRICS):
            schema = await connection.fetchval(
                "SELECT schema_name FROM generation WHERE projection = $1 AND state = 'live'", projection.value
            )
            for table in ("run", "run_param", "run_tag") if projection is Projection.RUNS else ("metric_block",):
                await connection.execute(f'VACUUM ANALYZE "{schema}".{table}')


async def over_http(client: httpx2.AsyncClient, experiment: int, asked: Asked) -> bytes:
    """The answer's bytes."""
    body = {
        "experiment_ids": [str(experiment)],
        "filter": asked.filter,
        "order_by": list(asked.order_by),
        "run_view_type": asked.view.name,
        "max_results": asked.limit,
    }
    if asked.offset:
        body["page_token"] = token(asked.offset)
    answer = await client.post(f"{API}/runs/search", json=body)
    answer.raise_for_status()
    return answer.content


def token(offset: int) -> str:
    """MLflow's token of a page."""
    import base64

    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode()


async def by_sql(pool: Any, experiment: int, asked: Asked) -> bytes:
    """The same runs as the same JSON, in this process: no HTTP, no look at the log's ends."""
    async with read_transaction(pool) as connection:
        rows = await search_runs(
            connection, [experiment], asked.filter, asked.view, asked.order_by, asked.limit, asked.offset
        )
    return msgspec.json.encode([encode_run(row) for row in rows])


async def times(
    ask: Callable[[Asked], Awaitable[bytes]], asked: Iterator[Asked], count: int, seconds: float
) -> list[float]:
    """Milliseconds of each of so many requests, fewer if they take longer than that together; infinite if one is given
    up.
    """
    found: list[float] = []
    until = time.perf_counter() + seconds
    while len(found) < count and (len(found) < 3 or time.perf_counter() < until):
        one = next(asked)
        began = time.perf_counter()
        try:
            await ask(one)
        except TimeoutError:
            return [math.inf]
        found.append((time.perf_counter() - began) * 1e3)
    return found


def questions(shape: Shape, runs: int, experiment: int) -> Iterator[Asked]:
    """Ever other ones, the same in every run of the benchmark."""
    rng = random.Random(f"{shape.name}/{runs}")
    while True:
        yield shape.ask(rng, runs, experiment)


def at(found: Sequence[float], part: float) -> float:
    return sorted(found)[min(len(found) - 1, int(len(found) * part))]


async def check(client: httpx2.AsyncClient, pool: Any, experiment: int, asked: Asked) -> None:
    """Both ways find the same."""
    by_columns = json.loads(await over_http(client, experiment, asked)).get("runs", [])
    if by_columns != json.loads(await by_sql(pool, experiment, asked)):
        raise SystemExit(f"the two ways differ: {asked}")


async def measure(up: Up, namespace: str, runs: int, experiment: int, count: int, sql_seconds: float) -> Table:
    """All shapes over one experiment."""
    table = Table(title=f"{runs:,} runs", box=None, pad_edge=False, title_justify="left")
    for title in ("shape", "first ms", "p50 ms", "p99 ms", "by SQL p50", "worst", "p50 ratio"):
        table.add_column(title, justify="left" if title == "shape" else "right")
    everything: list[float] = []
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=up.url, timeout=120, trust_env=False))
        pool = await stack.enter_async_context(
            open_pool(up.postgres, namespace, application="benchmark", timeout=GIVE_UP)
        )
        for shape in SHAPES:
            asked = questions(shape, runs, experiment)

            async def ask(one: Asked) -> bytes:
                return await over_http(client, experiment, one)

            async def ask_sql(one: Asked) -> bytes:
                return await by_sql(pool, experiment, one)

            first = await times(ask, asked, 1, 0)
            # Shapes that choose among columns: load them all before the warm requests.
            for _ in range(12):
                await ask(next(asked))
            warm = await times(ask, asked, count, 30)
            everything += warm
            slow = await times(ask_sql, asked, count, sql_seconds)
            if max(slow) < GIVE_UP * 1e3:
                await check(client, pool, experiment, next(asked))
            p50, sql_p50 = statistics.median(warm), statistics.median(slow)
            table.add_row(
                shape.name,
                f"{first[0]:.1f}",
                f"{p50:.1f}",
                f"{at(warm, 0.99):.1f}",
                f"{sql_p50:.1f}",
                f"{max(slow):.1f}",
                f"{sql_p50 / p50:.1f}",
            )
        metrics = (await client.get("/metrics")).text
    held = [line for line in metrics.splitlines() if line.startswith("runfold_search_memory_bytes ")]
    table.add_row("all shapes", "", f"{statistics.median(everything):.1f}", f"{at(everything, 0.99):.1f}", "", "", "")
    table.caption = f"kept in the server's memory: {float(held[0].split()[1]) / 1e6:,.0f} MB"
    return table


async def main() -> None:
    """Seed what is missing, ask, print a table per size."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", default="10000,100000", help="sizes, with commas; 1000000 takes 5 minutes to seed")
    arguments.add_argument("--data", help="directory that keeps the seeded installation for the next time")
    arguments.add_argument("--count", type=int, default=100, help="requests per shape")
    arguments.add_argument("--sql-seconds", type=float, default=5.0, help="time per shape for the SQL path")
    arguments.add_argument("--search-mb", type=int, default=1024)
    given = arguments.parse_args()
    sizes = [int(size) for size in given.runs.split(",")]
    print(f"# {describe()}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="runfold-bench-") as directory:
        settings = load_settings(data_dir=Path(given.data or directory), port=0, search_mb=given.search_mb)
        async with runfold_up(settings) as up:
            for size in sizes:
                began = time.perf_counter()
                await seed(up.postgres, settings.namespace, size, size)
                print(f"# seeded {size:,} runs in {time.perf_counter() - began:.0f} s", file=sys.stderr)
            for size in sizes:
                table = await measure(up, settings.namespace, size, size, given.count, given.sql_seconds)
                Console(width=130).print(table)


if __name__ == "__main__":
    asyncio.run(main())
