"""Compare MLflow's tracking API on Runfold and on MLflow's own server: same Postgres, same clients.

`make bench-tracking`. Latency is compared with MLflow's better setting for it (`--workers 1`), throughput with the
better of that and its default. Each figure is measured on both servers within seconds, so noise affects both. All of
Runfold runs meanwhile: broker, worker, server, Postgres.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import mlflow_server
import search
from clients import Client, Load, Running, history, load, points, timed
from machine import describe
from rich.console import Console
from rich.table import Table
from volume import RunningLoad

from runfold_stack.config.settings import load_settings
from runfold_stack.programs.up import Up, runfold_up

CACHE = Path(__file__).parents[1] / ".bench"
HISTORY_POINTS = 100_000
MOST_RATIO = 10.0
"""How many times its idle p50 a read's p99 may take under load: the issue's aim."""


class Results:
    """Rows of the table that is printed."""

    def __init__(self) -> None:
        self.table = Table(box=None, pad_edge=False)
        for title in ("measure", "Runfold", "p99", "p99/p50", "MLflow", "p99", "times"):
            self.table.add_column(title, justify="left" if title == "measure" else "right")
        self.notes: list[str] = []

    def latency(self, name: str, ours: Load, theirs: Load) -> None:
        """Medians in ms, and how many times as fast ours is."""
        a, b = ours.at(0.5), theirs.at(0.5)
        tail = ours.at(0.99)
        self._add(
            f"{name}, ms", f"{a:.1f}", f"{tail:.1f}", f"{tail / a:.1f}", f"{b:.1f}", f"{theirs.at(0.99):.1f}", b / a
        )

    def rate(self, name: str, ours: float, theirs: float) -> None:
        """Per second, and how many times as much ours does."""
        self._add(f"{name}, per s", f"{ours:,.0f}", "", "", f"{theirs:,.0f}", "", ours / theirs)

    def figure(self, name: str, ours: float, theirs: float, digits: int = 1) -> None:
        """Where less is better."""
        self._add(name, f"{ours:,.{digits}f}", "", "", f"{theirs:,.{digits}f}", "", theirs / ours)

    def _add(self, *row: str | float) -> None:
        *texts, ratio = row
        print(f"# {' | '.join(map(str, row))}", file=sys.stderr)
        self.table.add_row(*map(str, texts), f"{float(ratio):.1f}")


def memory(pids: Sequence[int]) -> float:
    """Megabytes of these processes and their children, shared pages counted in parts."""
    found, todo = set[int](), list(pids)
    while todo:
        pid = todo.pop()
        if pid in found:
            continue
        found.add(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            todo += [int(child) for child in children.read_text().split()]
    total = 0
    for pid in found:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def writes(out: Results, ours: str, one: str, default: str, seconds: float) -> float:
    """Everything that writes, and get run. Answers our greatest rate of log_metric."""
    for kind in ("create_run", "get_run", "log_param", "log_metric"):
        out.latency(f"{kind}, 1 client", load(ours, kind, 1, seconds), load(one, kind, 1, seconds))
    most = 0.0
    for clients in (1, 8):
        mine = load(ours, "log_metric", clients, seconds)
        theirs = max(load(url, "log_metric", clients, seconds).rate for url in (one, default))
        out.rate(f"log_metric, {clients} clients", mine.rate, theirs)
        most = max(most, mine.rate)
    for clients in (1, 4):
        mine = load(ours, "log_batch", clients, seconds)
        theirs = max(load(url, "log_batch", clients, seconds).rate for url in (one, default))
        out.rate(f"log-batch of 1,000 metrics, {clients} clients, points", mine.rate * 1000, theirs * 1000)
    with tempfile.TemporaryDirectory(prefix="runfold-bench-") as spool:
        os.environ.update(RUNFOLD_SPOOL_DIR=spool, RUNFOLD_SPOOL_FULL="block", RUNFOLD_SPOOL_MB="256")
        sdk = RunningLoad(ours, None, "", "scalars", seconds)
        sdk.go()
        found = sdk.result()
    rate = sum(points for points, _, _ in found) / max(took for _, _, took in found)
    out.rate(
        "the SDK over HTTP, 100 scalars a call, 4 processes, beside MLflow's log-batch, points", rate, theirs * 1000
    )
    return most


def long_history(out: Results, ours: str, one: str) -> tuple[str, str]:
    """A history of many points, by pages and at once; answers the runs that hold it."""
    runs = []
    for url in (ours, one):
        client = Client(url)
        runs.append(client.new_run())
        for at in range(0, HISTORY_POINTS, 1000):
            client.ask("POST", "runs/log-batch", {"run_id": runs[-1], "metrics": points(at)})
    for name, page, count in (("pages of 25,000", 25_000, 5), ("at once", None, 5)):

        def read(url: str, run: str, page: int | None = page) -> Callable[[int], object]:
            client = Client(url)

            def once(_: int) -> None:
                found = history(client, run, "loss0", page)
                if found != HISTORY_POINTS:
                    raise SystemExit(f"{url} answers {found} of {HISTORY_POINTS} points")

            return once

        mine, theirs = read(ours, runs[0]), read(one, runs[1])
        mine(0)
        out.latency(
            f"history of 100,000 points, {name}", timed(Client(ours), mine, count), timed(Client(one), theirs, 3)
        )
    return runs[0], runs[1]


def searches(out: Results, ours: str, one: str, runs: int, count: int) -> None:
    """Every shape over so many runs."""
    mine, theirs = Client(ours), Client(one)
    everything: list[float] = []
    for shape in search.SHAPES:
        found = []
        for client, number in ((mine, count), (theirs, max(3, count // 5))):
            asked = search.questions(shape, runs, runs)

            def ask(_: int, client: Client = client, asked: object = asked) -> None:
                one = next(asked)  # type: ignore[call-overload]
                body = {
                    "experiment_ids": [str(runs)],
                    "filter": one.filter,
                    "order_by": list(one.order_by),
                    "run_view_type": one.view.name,
                    "max_results": one.limit,
                } | ({"page_token": search.token(one.offset)} if one.offset else {})
                client.ask("POST", "runs/search", body)

            # A server closes what was idle while the other one was asked.
            client.connect()
            # The first answers load columns; one that takes longer than a client waits goes on to load for the next.
            for _ in range(4 if client is mine else 0):
                if timed(client, ask, 4, 60.0).at(0.99) < 5.0:
                    break
            found.append(timed(client, ask, number, 8.0))
        everything += found[0].times
        out.latency(f"search of {runs:,}: {shape.name}", *found)
    together = Load(sorted(everything), 0.0)
    out.notes.append(
        f"search of {runs:,} runs, all shapes: p50 {together.at(0.5):.1f} ms, p99 {together.at(0.99):.1f} ms"
    )


def under_load(out: Results, ours: str, most: float, run: str, runs: int, seconds: float) -> None:
    """Reads while 80 % of the greatest rate of log_metric is written."""
    client = Client(ours)
    own = client.new_run()
    client.ask("POST", "runs/log-metric", {"run_id": own, "key": "m", "value": 1, "timestamp": 1, "step": 1})
    body = {
        "experiment_ids": [str(runs)],
        "filter": "metrics.m1 > 0.3 AND params.p2 = '7'",
        "order_by": ["metrics.m2 DESC"],
        "max_results": 100,
    }
    page = f"metrics/get-history?run_id={run}&metric_key=loss0&max_results=1000"
    reads: dict[str, Callable[[int], object]] = {
        "get run": lambda _: client.ask("GET", f"runs/get?run_id={own}"),
        "a page of a history": lambda _: client.ask("GET", page),
        f"search of {runs:,}": lambda _: client.ask("POST", "runs/search", body),
    }
    idle = {name: timed(client, read, 300, seconds) for name, read in reads.items()}
    for name, read in reads.items():
        writing = Running(ours, "log_metric", 8, seconds + 2, rate=0.8 * most)
        busy = timed(client, read, 100_000, seconds)
        done = writing.result()
        ratio = busy.at(0.99) / idle[name].at(0.5)
        out.notes.append(
            f"{name} under {done.rate:,.0f} log_metric/s (80 % of the most): "
            f"p50 {busy.at(0.5):.1f} ms, p99 {busy.at(0.99):.1f} ms; "
            f"idle p50 {idle[name].at(0.5):.1f} ms; p99 busy / p50 idle {ratio:.1f}"
            f"{'' if ratio <= MOST_RATIO else ' (above the aim of 10)'}"
        )


async def sizes(out: Results, up: Up, uri: str) -> None:
    """Bytes a point in Postgres, all indexes counted."""
    counted = []
    for dsn, query in (
        (
            up.postgres,
            """
            SELECT sum(pg_total_relation_size(c.oid)) AS size, (SELECT sum(points) FROM runfold.segment) AS points
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname LIKE 'runfold_metrics_%' AND c.relkind = 'r' AND c.relname = 'segment'
            """,
        ),
        (
            mlflow_server.dsn_of(uri),
            "SELECT pg_total_relation_size('metrics') AS size, (SELECT count(*) FROM metrics) AS points",
        ),
    ):
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("VACUUM ANALYZE")
            row = await connection.fetchrow(query)
            counted.append(float(row["size"]) / float(row["points"]))
        finally:
            await connection.close()
    ours, theirs = counted
    out.figure("bytes a point in Postgres (random doubles)", ours, theirs)


async def run(folder: Path, given: argparse.Namespace) -> Results:
    """Measure everything once."""
    out = Results()
    runs = [int(size) for size in given.runs.split(",")]
    settings = load_settings(data_dir=folder / "data", port=0, search_mb=given.search_mb)
    bin_folder = await asyncio.to_thread(mlflow_server.environment, CACHE)
    async with runfold_up(settings):
        pass
    began = time.perf_counter()
    async with runfold_up(settings) as up:
        start = time.perf_counter() - began
        uri = await mlflow_server.make_database(up.postgres)
        with mlflow_server.server(bin_folder, uri, folder / "artifacts", workers=1):
            pass
        with ExitStack() as stack:
            one = stack.enter_context(mlflow_server.server(bin_folder, uri, folder / "one", workers=1))
            default = stack.enter_context(mlflow_server.server(bin_folder, uri, folder / "default", workers=None))
            out.figure("start to first answer, s (Runfold: broker and Postgres too)", start, one.start_seconds)
            most, held = 0.0, ""
            if not given.only_search:
                print("# writes", file=sys.stderr)
                most = await asyncio.to_thread(writes, out, up.url, one.url, default.url, given.seconds)
                print("# history", file=sys.stderr)
                held, _ = await asyncio.to_thread(long_history, out, up.url, one.url)
                await sizes(out, up, uri)
            for size in runs:
                print(f"# {size:,} runs into both", file=sys.stderr)
                await search.seed(up.postgres, settings.namespace, size, size)
                await mlflow_server.seed(uri, size, size)
                print(f"# search over {size:,} runs", file=sys.stderr)
                await asyncio.to_thread(searches, out, up.url, one.url, size, given.count)
            if not given.only_search:
                print("# reads under load", file=sys.stderr)
                await asyncio.to_thread(under_load, out, up.url, most, held, runs[0], given.seconds)
            pids = {name: up.stack.pid(name) for name in ("server", "worker", "kafka", "postgres")}
            ours = {name: memory([pid]) for name, pid in pids.items()}
            named = ", ".join(f"{name} {size:,.0f}" for name, size in ours.items())
            out.figure("memory of the server, MB (MLflow: --workers 1)", ours["server"], memory([one.pid]), 0)
            out.notes.append(
                f"memory of Runfold's parts, MB: {named}; MLflow's default workers: {memory([default.pid]):,.0f}"
            )
    return out


async def main() -> None:
    """Print the table and the notes."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", default="10000,100000", help="numbers of runs to search, with commas")
    arguments.add_argument("--seconds", type=float, default=6.0, help="per measure")
    arguments.add_argument("--count", type=int, default=50, help="searches per shape")
    arguments.add_argument(
        "--only-search", action="store_true", help="such as over 1,000,000 runs, which take long to make"
    )
    arguments.add_argument("--search-mb", type=int, default=512, help="memory for searches of Runfold's server")
    arguments.add_argument("--quick", action="store_true", help="to see that it works; the figures mean little")
    given = arguments.parse_args()
    if given.quick:
        given.runs, given.seconds, given.count = "1000", 1.0, 5
    head = f"# {describe()}"
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="runfold-bench-") as folder:
        out = await run(Path(folder), given)
    console = Console(width=140)
    console.print(head)
    console.print(out.table)
    for note in out.notes:
        console.print(note)


if __name__ == "__main__":
    asyncio.run(main())
