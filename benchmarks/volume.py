"""Measure the path from the SDK to queryable points at volume, with everything on one machine.

`make bench-volume`, or `python benchmarks/volume.py [profile …] [--seconds 60] [--rate POINTS]`. A profile's load runs
for `--seconds`, at up to `--rate` points a second (0: unbounded), and the benchmark waits until all is folded. Every 10
seconds it prints points logged, fold lag, memory, and segments that wait for compaction. Single events meanwhile
measure the time from an acknowledged append to a committed fold. At the end the stored points are compared with the
logged ones, which are all distinct.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import httpx2
from machine import describe
from rich.console import Console
from rich.table import Table
from volume_load import LOADS, Share, neptune_keys

from runfold_log.cluster import KafkaCluster
from runfold_log.writer import LogWriter
from runfold_projections.postgres.connection import open_connection, open_pool
from runfold_projections.postgres.notifications import progress_channel
from runfold_projections.postgres.read_transaction import checkpoints
from runfold_projections.segments.compaction_backlog import QUIET_SECONDS
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.positions.position import Partition, Position
from runfold_stack.config.settings import Settings, load_settings
from runfold_stack.programs.up import Up, runfold_up

_spawn = get_context("spawn")
PROCESSES = 4
EVERY = 10.0
MLFLOW = "/api/2.0/mlflow"


@dataclass(frozen=True)
class Profile:
    """What is measured: a load, the transport it takes, and the issue's aim in points (or events) a second."""

    load: str
    transport: str
    aim: float
    points_per_event: int = 1
    rate: float = 0.0
    """Points a second that are logged, if the profile says so itself."""


NEPTUNE = 1_200 * 9_500 / 25
PROFILES = {
    "light": Profile("scalars", "kafka", 1e4, rate=1e4),
    "scalars": Profile("scalars", "kafka", 2e6),
    "series": Profile("series", "kafka", 4e6),
    "rows": Profile("rows", "kafka", 4e6),
    "single": Profile("single", "kafka", 5e5),
    "small": Profile("small", "kafka", 25e3, points_per_event=10),
    "http": Profile("scalars", "http", 1e6),
    "neptune": Profile("neptune", "kafka", NEPTUNE, rate=NEPTUNE),
    "wide": Profile("wide", "kafka", NEPTUNE, rate=2 * NEPTUNE),
    "newkeys": Profile("newkeys", "kafka", 40e3, rate=40e3),
    "newwide": Profile("newwide", "kafka", 256e3, rate=256e3),
    "churn": Profile("churn", "kafka", 100e3, rate=100e3),
    "longnames": Profile("longnames", "kafka", 10e3, rate=10e3),
    "slowkeys": Profile("slowkeys", "kafka", 10e3 / 60, rate=10e3 / 60),
    "neptune3": Profile("neptune", "kafka", 3 * NEPTUNE, rate=3 * NEPTUNE),
}

OWN_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname LIKE '%\\_metrics\\_%' AND c.relkind = 'r'
"""
SIZE = f"SELECT sum(pg_total_relation_size(name::regclass)) FROM ({OWN_TABLES}) AS own"  # noqa: S608 - a constant
"""Bytes of the metrics' tables, all indexes counted."""


class Probe:
    """Ten times a second an event of its own: how long after Kafka's acknowledgement a fold has committed it."""

    def __init__(self, up: Up, settings: Settings) -> None:
        self._up, self._namespace = up, settings.namespace
        self.times: list[float] = []

    async def run(self) -> None:
        """Until cancelled."""
        folded: dict[Partition, int] = {}
        moved = asyncio.Event()

        def on_notice(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            position = Position.parse(str(payload))
            folded[position.where] = position.offset
            moved.set()

        async with (
            open_connection(self._up.postgres, self._namespace, application="benchmark") as connection,
            LogWriter(self._up.kafka, self._namespace) as log,
        ):
            await connection.add_listener(progress_channel(self._namespace), on_notice)
            for n in itertools.count():
                point = Point("probe", float(n), n, n)
                appended = await log.append(MetricsLogged(f"{2**127 + n % 8:032x}", from_points([point])))
                began = time.perf_counter()
                while folded.get(appended.position.where, 0) <= appended.position.offset:
                    moved.clear()
                    await moved.wait()
                self.times.append(time.perf_counter() - began)
                await asyncio.sleep(0.1)

    def at(self, part: float) -> float:
        """Milliseconds that this part of the events did not exceed."""
        times = sorted(self.times) or [0.0]
        return times[min(len(times) - 1, int(len(times) * part))] * 1e3


class Asker:
    """Now and then a strong search by a metric of the wide runs, and one series of one run."""

    def __init__(self, up: Up) -> None:
        self._url = up.url
        self.searches: list[float] = []
        self.series: list[float] = []
        self.refused = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with httpx2.AsyncClient(base_url=self._url, timeout=60, trust_env=False) as client:
            answer = await client.get(f"{MLFLOW}/experiments/get-by-name", params={"experiment_name": "volume"})
            experiment = answer.json()["experiment"]["experiment_id"]
            for n in itertools.count():
                await asyncio.sleep(3)
                key = neptune_keys()[n * 997 % 9500]
                body = {"experiment_ids": [experiment], "order_by": [f"metrics.`{key}` DESC"], "max_results": 10}
                began = time.perf_counter()
                while (found := await client.post(f"{MLFLOW}/runs/search", json=body)).status_code == 503:
                    # The fold was more than the server waits behind: asked again, and the wait counted.
                    self.refused += 1
                found.raise_for_status()
                self.searches.append(time.perf_counter() - began)
                run_id = found.json()["runs"][0]["info"]["run_id"]
                began = time.perf_counter()
                got = await client.get(f"{MLFLOW}/metrics/get-history", params={"run_id": run_id, "metric_key": key})
                got.raise_for_status()
                self.series.append(time.perf_counter() - began)


class Watch:
    """Looks at the system while the load runs."""

    def __init__(self, up: Up, logged: Callable[[], int]) -> None:
        self._up, self._logged = up, logged
        self.most_lag = 0.0
        self.most_backlog = 0.0
        self.memory: list[tuple[float, float]] = []

    async def run(self) -> None:
        """Until cancelled; a line every ten seconds."""
        began, before, said = time.perf_counter(), 0, time.perf_counter()
        while True:
            await asyncio.sleep(1)
            numbers = await asyncio.to_thread(self._metrics)
            lag = max((v for name, v in numbers if name.startswith("runfold_lag_seconds")), default=0.0)
            backlog = sum(v for name, v in numbers if name.startswith("runfold_compaction_backlog"))
            self.most_lag, self.most_backlog = max(self.most_lag, lag), max(self.most_backlog, backlog)
            if (now := time.perf_counter()) - said >= EVERY:
                logged = self._logged()
                worker, server = (memory(self._up.stack.pid(name)) for name in ("worker", "server"))
                self.memory.append((worker, server))
                print(
                    f"# {now - began:5.0f} s: {(logged - before) / (now - said) / 1e6:.2f} M points/s logged, "
                    f"lag {lag:.1f} s, "
                    f"worker {worker:,.0f} MB, server {server:,.0f} MB, {backlog:.0f} segments wait to be merged",
                    file=sys.stderr,
                )
                before, said = logged, now

    def _metrics(self) -> list[tuple[str, float]]:
        with urllib.request.urlopen(f"{self._up.worker_url}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return [(name, float(value)) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")]


def memory(pid: int) -> float:
    """Megabytes of a process, shared pages counted in parts."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


class Spent:
    """CPU time of the system's processes from now on, user and system, whoever else shares the machine."""

    def __init__(self, up: Up) -> None:
        self._roots = {name: up.stack.pid(name) for name in ("worker", "server", "kafka", "postgres")}
        self._roots["load"] = os.getpid()
        self._before = self._seconds()

    def seconds(self) -> dict[str, float]:
        """CPU seconds per part: "load" is this process and those of the load, "worker" includes its compaction."""
        return {name: now - self._before[name] for name, now in self._seconds().items()}

    def _seconds(self) -> dict[str, float]:
        parents: dict[int, int] = {}
        own: dict[int, float] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                pid = int(path.parent.name)
                parents[pid] = int(fields[1])
                # With children that have ended.
                own[pid] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        roots = {pid: name for name, pid in self._roots.items()}
        found = dict.fromkeys(self._roots, 0.0)
        for pid, seconds in own.items():
            at = pid
            while at and at not in roots:
                at = parents.get(at, 0)
            if at in roots:
                found[roots[at]] += seconds
        return found


def loading(share: Share, load: str, ready: Any, go: Any, counted: Any, out: Any) -> None:
    """One process of the load."""
    with LOADS[load](share) as step:
        ready.release()
        go.wait()
        began = time.perf_counter()
        total = 0
        while (now := time.perf_counter()) - began < share.seconds:
            if share.rate and (early := began + total / share.rate - now) > 0:
                time.sleep(min(early, 0.05))
                continue
            total += step()
            counted.value = total
        logged = time.perf_counter() - began
    out.put((total, logged, time.perf_counter() - began))


class RunningLoad:
    """Processes of a load, ready to go."""

    def __init__(
        self, uri: str, kafka: KafkaCluster | None, namespace: str, load: str, seconds: float, rate: float = 0.0
    ) -> None:
        self._counted = [_spawn.Value("q", 0, lock=False) for _ in range(PROCESSES)]
        ready, self._go, self._out = _spawn.Semaphore(0), _spawn.Event(), _spawn.Queue()
        self._seconds = seconds
        self._processes = []
        for n, counted in enumerate(self._counted):
            share = Share(uri, kafka, namespace, n, PROCESSES, seconds, rate / PROCESSES)
            process = _spawn.Process(
                target=loading, args=(share, load, ready, self._go, counted, self._out), daemon=True
            )
            process.start()
            self._processes.append(process)
        for _ in self._processes:
            if not ready.acquire(timeout=300):
                raise SystemExit(f"{load}: a process of the load did not begin")

    def go(self) -> None:
        """Begin."""
        self._go.set()

    def logged(self) -> int:
        """Points so far."""
        return sum(int(counted.value) for counted in self._counted)

    def result(self) -> list[tuple[int, float, float]]:
        """Of each process: points, seconds until all were logged, seconds until all were acknowledged."""
        found = [self._out.get(timeout=self._seconds + 900) for _ in self._processes]
        for process in self._processes:
            process.join()
        return found


class Runs(Protocol):
    """Something that runs until it is cancelled."""

    async def run(self) -> None:
        """Until cancelled."""


@asynccontextmanager
async def beside(*what: Runs) -> AsyncIterator[None]:
    """These run meanwhile; what fails in them fails the benchmark."""
    tasks = [asyncio.create_task(one.run()) for one in what]
    try:
        yield
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def measure(name: str, given: argparse.Namespace, table: Table) -> None:
    """One profile on a new installation."""
    profile = PROFILES[name]
    rate = given.rate or profile.rate
    with tempfile.TemporaryDirectory(prefix="runfold-volume-", dir=given.dir) as folder:
        settings = load_settings(data_dir=Path(folder) / "data", port=0)
        os.environ["RUNFOLD_SPOOL_DIR"] = f"{folder}/spool"
        os.environ.update(RUNFOLD_SPOOL_FULL="block", RUNFOLD_SPOOL_MB="256", RUNFOLD_FINISH_TIMEOUT="600")
        async with runfold_up(settings) as up:
            os.environ.update(up.kafka.security.variables())
            uri = up.url if profile.transport == "http" else f"kafka://{up.kafka}/{settings.namespace}?api={up.url}"
            load = await asyncio.to_thread(
                RunningLoad, uri, up.kafka, settings.namespace, profile.load, given.seconds, rate
            )
            watch, probe, asker = Watch(up, load.logged), Probe(up, settings), Asker(up)
            spent = Spent(up)
            began = time.perf_counter()
            load.go()
            async with beside(watch, probe, *([asker] if profile.load == "neptune" else [])):
                found = await asyncio.to_thread(load.result)
                logged = sum(total for total, _, _ in found)
                if asker.searches:
                    print(
                        f"# {name}: {len(asker.searches)} strong searches by a metric "
                        f"took {max(asker.searches):.2f} s at most "
                        f"({asker.refused} times asked again after a 503), "
                        f"a series of one run {max(asker.series):.2f} s",
                        file=sys.stderr,
                    )
                acknowledged = max(seconds for _, _, seconds in found)
                await folded(up, settings)
                visible = time.perf_counter() - began
            seconds = await asyncio.to_thread(spent.seconds)
            each = logged / profile.points_per_event / 1e6
            print(
                f"# {name}: CPU per {'event' if profile.points_per_event > 1 else 'point'}, us: "
                f"{sum(seconds.values()) / each:.3g} = "
                + ", ".join(f"{part} {used / each:.3g}" for part, used in seconds.items()),
                file=sys.stderr,
            )
            await asyncio.to_thread(show, name, profile, found, visible, watch, probe, table)
            async with open_pool(up.postgres, settings.namespace, application="benchmark") as pool:
                stored = await pool.fetchval("SELECT sum(points) FROM segment WHERE first_key <> 'probe'")
                # Told before the long wait: who ends the command there has the count.
                print(f"# {name}: {stored:,} points stored of {logged:,} logged", file=sys.stderr)
                await merged(pool)
                size = await pool.fetchval(SIZE)
                # Merging leaves room that the next segments take; what the points themselves take is seen without it.
                for row in await pool.fetch(OWN_TABLES):
                    await pool.execute(f"VACUUM FULL {row['name']}", timeout=1800)
                tight = await pool.fetchval(SIZE)
            log = sum(path.stat().st_size for path in (Path(folder) / "data" / "kafka").rglob("*.log"))
            print(
                f"# {name}: {float(size) / stored:.1f} bytes a point in Postgres once merged "
                f"({float(tight) / stored:.1f} without the room that merging left), {log / stored:.1f} in Kafka; "
                f"acknowledged after {acknowledged:.1f} s",
                file=sys.stderr,
            )
            if stored != logged:
                raise SystemExit(f"{name}: {logged:,} points were logged, {stored:,} are stored")


async def merged(pool: Any) -> None:
    """Wait until what has gone quiet is merged: no segment came or went for longer than workers wait, twenty minutes at
    most.
    """
    before, since, until = -1, time.perf_counter(), time.perf_counter() + 1200
    while (now := time.perf_counter()) < min(since + 2 * QUIET_SECONDS, until):
        segments = await pool.fetchval("SELECT count(*) FROM segment WHERE first_key <> 'probe'", timeout=600)
        if segments != before:
            before, since = segments, now
        await asyncio.sleep(2)


async def folded(up: Up, settings: Settings) -> None:
    """Wait until the fold has reached the log's end."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from runfold_schemas.positions.topics import Topic, full_name

    consumer = AIOKafkaConsumer(**up.kafka.options(), group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        topic = full_name(settings.namespace, Topic.METRICS)
        partitions = [TopicPartition(topic, n) for n in range(8)]
        ends = {p.partition: end for p, end in (await consumer.end_offsets(partitions)).items()}
    finally:
        await consumer.stop()
    async with open_pool(up.postgres, settings.namespace, application="benchmark") as pool:
        while True:
            async with pool.acquire() as connection:
                have = await checkpoints(connection)
            if all(have.get(where, 0) >= ends[where.partition] for where in have if where.topic is Topic.METRICS):
                return
            await asyncio.sleep(0.05)


def show(
    name: str, profile: Profile, found: list[Any], visible: float, watch: Watch, probe: Probe, table: Table
) -> None:
    """A row of the table."""
    logged = sum(total for total, _, _ in found)
    worth = profile.points_per_event
    took = max(seconds for _, seconds, _ in found)
    worker = [w for w, _ in watch.memory] or [0.0]
    table.add_row(
        name,
        profile.transport,
        f"{logged / took / worth:,.0f}",
        f"{logged / visible / worth:,.0f}",
        f"{profile.aim:,.0f}",
        f"{watch.most_lag:.1f}",
        f"{probe.at(0.5):.0f} / {probe.at(0.99):.0f}",
        f"{worker[0]:,.0f} → {worker[-1]:,.0f}",
        f"{watch.most_backlog:,.0f}",
    )


def titles() -> Iterator[str]:
    """Columns of the table."""
    yield from ("profile", "transport", "logged/s", "queryable/s", "aim/s", "most lag, s", "visible, ms: p50 / p99")
    yield from ("worker MB", "most to merge")


async def main() -> None:
    """Each profile in turn, and one table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("profiles", nargs="*", default=["scalars"], choices=[*PROFILES, "all"])
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument("--rate", type=float, default=0.0, help="points a second; 0: as many as are taken")
    arguments.add_argument("--dir", help="where the data lies meanwhile")
    given = arguments.parse_args()
    names = list(PROFILES) if "all" in given.profiles else given.profiles
    head = f"# {describe()}"
    table = Table(box=None, pad_edge=False)
    for title in titles():
        table.add_column(title, justify="left" if title in ("profile", "transport") else "right")
    try:
        for name in names:
            print(f"# {name}", file=sys.stderr)
            await measure(name, given, table)
    finally:
        console = Console(width=140)
        console.print(head)
        console.print(table)


if __name__ == "__main__":
    asyncio.run(main())
