"""A load that remembers exactly what was acknowledged, and the comparison of that with what is there.

Half of the runs are written as MLflow's client does, over plain HTTP, by requests whose repetition is safe; half by the
SDK, whose repetitions carry the same events.
"""

import asyncio
import itertools
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

import runfold
from runfold.errors import NotConnected
from runfold_projections.core.canonical import Row
from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import open_pool
from runfold_projections.segments.compacted import read_segment
from tests.support.installations.installation import Installation

API = "/api/2.0/mlflow"
KEYS = 10
SPECIAL = (float("nan"), float("inf"), float("-inf"), -0.0, 5e-324)
PATIENCE = 240.0

Point = tuple[str, int, int, str]
"""Key, step, time in ms (0 for the SDK's runs, whose clock is their own), value in hexadecimal."""
Rows = dict[Projection, list[tuple[str, Row]]]


def seed_of_this_run() -> int:
    """RUNFOLD_SEED, or a new one; printed, so that a failure can be met again."""
    seed = int(os.environ.get("RUNFOLD_SEED") or random.SystemRandom().randrange(2**32))
    print(f"RUNFOLD_SEED={seed}")
    return seed


def soak_factor(many: int) -> int:
    """`many` under RUNFOLD_SOAK=1, else 1."""
    return many if os.environ.get("RUNFOLD_SOAK") == "1" else 1


@dataclass
class RunBook:
    """What was sent about one run, and what of it was acknowledged."""

    run_id: str
    name: str
    sdk: bool
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    status: str = "RUNNING"
    points: set[Point] = field(default_factory=set)
    sent_points: Counter[Point] = field(default_factory=Counter)
    """How often each point was sent, as events of their own."""
    doubtful: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """Values of (params | tags | status, key) in attempts that were not acknowledged: they may take effect, even late.
    """

    def doubt(self, kind: str, values: dict[str, str]) -> None:
        """An attempt to write these was not acknowledged."""
        for key, value in values.items():
            self.doubtful.setdefault((kind, key), set()).add(value)


@dataclass
class Book:
    """All runs of a load."""

    runs: list[RunBook] = field(default_factory=list)
    unanswered_names: set[str] = field(default_factory=set)
    """Names of runs whose creation was not acknowledged."""
    acknowledged: int = 0
    unacknowledged: int = 0
    failures: list[str] = field(default_factory=list)


class Load:
    """Writes `runs` runs (without a number: until `stop`), from `clients` HTTP clients and `threads` SDK threads.

    Each client keeps to one of the servers. Every run has params, tags and `rows` rows of ten metrics.
    """

    def __init__(
        self,
        servers: Sequence[str],
        seed: int,
        *,
        runs: int | None = None,
        rows: int = 40,
        clients: int = 6,
        threads: int = 4,
    ) -> None:
        self.book = Book()
        self.finished = 0
        self._servers, self._seed, self._rows = list(servers), seed, rows
        self._clients, self._threads = clients, threads
        self._wanted = runs
        self._numbers: Iterator[int] = itertools.count() if runs is None else iter(range(runs))
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    @property
    def done(self) -> float:
        """The part of the runs that is finished, 0 to 1."""
        return self.finished / self._wanted if self._wanted else 0.0

    def stop(self) -> None:
        """Begin no further run."""
        self._stopping.set()

    async def run(self) -> None:
        """Return when all runs are finished; AssertionError with what must not have happened."""
        with _errors_of_the_sdk(self.book.failures):
            async with asyncio.TaskGroup() as group:
                for n in range(self._clients):
                    group.create_task(self._http_client(n))
                for n in range(self._threads):
                    group.create_task(asyncio.to_thread(self._sdk_thread, n))
        assert not self.book.failures, self.book.failures[:5]

    def _next(self) -> int | None:
        with self._lock:
            return None if self._stopping.is_set() or self.book.failures else next(self._numbers, None)

    def _finished(self) -> None:
        with self._lock:
            self.finished += 1

    async def _http_client(self, n: int) -> None:
        async with httpx2.AsyncClient(base_url=self._servers[n % len(self._servers)], timeout=30) as http:
            writer = _HttpWriter(http, self.book, f"{self._seed} {n}")
            try:
                await writer.find_experiment("by http")
                while (number := self._next()) is not None:
                    await writer.write_run(f"http {number}", self._rows)
                    self._finished()
            except AssertionError as error:
                self.book.failures.append(str(error))

    def _sdk_thread(self, n: int) -> None:
        chance = random.Random(f"{self._seed} sdk {n}")
        try:
            while (number := self._next()) is not None:
                _write_with_sdk(self._servers[n % len(self._servers)], self.book, f"sdk {number}", self._rows, chance)
                self._finished()
        except Exception as error:
            self.book.failures.append(f"SDK: {type(error).__name__}: {error}")


class _HttpWriter:
    """One client of MLflow's REST. What was not acknowledged is repeated, or now and then left as it is."""

    def __init__(self, http: httpx2.AsyncClient, book: Book, seed: str) -> None:
        self._http, self._book, self._chance = http, book, random.Random(seed)
        self._experiment_id = ""

    async def find_experiment(self, name: str) -> None:
        while not self._experiment_id:
            answer = await self._ask("POST", "/experiments/create", {"name": name}, known=(400,))
            found = await self._ask("GET", f"/experiments/get-by-name?experiment_name={name}", None, known=(404,))
            if answer is not None and found is not None and "experiment" in found:
                self._experiment_id = str(found["experiment"]["experiment_id"])

    async def write_run(self, name: str, rows: int) -> None:
        run = await self._create(name)
        params = {f"p{n}": f"{name} {self._chance.random()}" for n in range(4)}
        tags = {f"t{n}": f"{name} {self._chance.random()}" for n in range(3)}

        def doubt() -> None:
            run.doubt("params", params)
            run.doubt("tags", tags)

        body: dict[str, Any] = {"run_id": run.run_id, "params": _pairs(params), "tags": _pairs(tags)}
        if await self._tell("/runs/log-batch", body, doubt=doubt):
            run.params |= params
            run.tags |= tags
        at = 0
        while at < rows:
            count = min(rows - at, self._chance.choice((1, 10, 10)))
            await self._points(run, [p for row in range(at, at + count) for p in self._row(row)])
            at += count
            if self._chance.random() < 0.3:
                await self._tag(run, "stage", f"{name} {at}")
        body = {"run_id": run.run_id, "status": "FINISHED", "end_time": 1000}
        if await self._tell("/runs/update", body, doubt=lambda: run.doubt("status", {"": "FINISHED"})):
            run.status = "FINISHED"

    async def _create(self, name: str) -> RunBook:
        for attempt in itertools.count():
            asked = f"{name} {attempt}" if attempt else name
            body = {"experiment_id": self._experiment_id, "run_name": asked, "start_time": 1}
            self._book.unanswered_names.add(asked)
            # Not repeated under the same name: each creation that takes effect makes a run.
            answer = await self._ask("POST", "/runs/create", body)
            if answer is not None:
                self._book.unanswered_names.discard(asked)
                run = RunBook(answer["run"]["info"]["run_id"], asked, sdk=False)
                self._book.runs.append(run)
                return run
        raise AssertionError

    async def _points(self, run: RunBook, points: list[Point]) -> None:
        if len(points) == KEYS and self._chance.random() < 0.2:
            for point in points:
                await self._send(run, [point], "/runs/log-metric", {"run_id": run.run_id, **_metric(point)})
        else:
            body = {"run_id": run.run_id, "metrics": [_metric(point) for point in points]}
            await self._send(run, points, "/runs/log-batch", body)

    async def _send(self, run: RunBook, points: list[Point], path: str, body: dict[str, Any]) -> None:
        if await self._tell(path, body, before=lambda: run.sent_points.update(points)):
            run.points.update(points)

    async def _tag(self, run: RunBook, key: str, value: str) -> None:
        body = {"run_id": run.run_id, "key": key, "value": value}
        if await self._tell("/runs/set-tag", body, doubt=lambda: run.doubt("tags", {key: value})):
            run.tags[key] = value

    def _row(self, step: int) -> list[Point]:
        now = time.time_ns() // 1_000_000
        return [(f"m{n}", step, now, _value(self._chance, special=False).hex()) for n in range(KEYS)]

    async def _tell(
        self,
        path: str,
        body: dict[str, Any],
        *,
        before: Callable[[], None] = lambda: None,
        doubt: Callable[[], None] = lambda: None,
    ) -> bool:
        """Whether it was acknowledged in the end."""
        while True:
            before()
            if await self._ask("POST", path, body) is not None:
                return True
            doubt()
            if self._chance.random() < 0.2:
                return False

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None, known: tuple[int, ...] = ()
    ) -> dict[str, Any] | None:
        """One attempt: what was answered, or None if nothing was acknowledged."""
        try:
            answer = await self._http.request(method, API + path, json=body)
        except httpx2.TransportError:
            self._book.unacknowledged += 1
            await asyncio.sleep(0.1)
            return None
        if answer.status_code == 503:
            assert answer.headers.get("retry-after", "").isdecimal(), f"{path}: 503 without Retry-After"
            self._book.unacknowledged += 1
            await asyncio.sleep(0.1)
            return None
        assert answer.status_code in (200, *known), f"{path} {str(body)[:200]}: {answer.status_code} {answer.text}"
        self._book.acknowledged += 1
        found: dict[str, Any] = answer.json()
        return found


def _write_with_sdk(server: str, book: Book, name: str, rows: int, chance: random.Random) -> None:
    params = {f"p{n}": f"{name} {chance.random()}" for n in range(4)}
    tags = {f"t{n}": f"{name} {chance.random()}" for n in range(3)}
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            # Nothing is appended before a server answers, so that a start may be repeated.
            run = runfold.run("by sdk", params=params, tags=tags, name=name, tracking_uri=server)
            break
        except NotConnected:
            book.unacknowledged += 1
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    written = RunBook(run.id, name, sdk=True, params=params, tags=tags, status="FINISHED")
    for step in range(rows):
        values = {f"m{n}": _value(chance, special=True) for n in range(KEYS)}
        run.log(values, step=step)
        written.sent_points.update((key, step, 0, value.hex()) for key, value in values.items())
        if step == rows // 2:
            run.log_params({"late": name})
            run.set_tags({"t0": f"{name} again"})
            time.sleep(chance.random() * 0.2)
    written.params |= {"late": name}
    written.tags |= {"t0": f"{name} again"}
    written.points.update(written.sent_points)
    run.finish()
    book.acknowledged += 1
    book.runs.append(written)


def _value(chance: random.Random, *, special: bool) -> float:
    return chance.choice(SPECIAL) if special and chance.random() < 0.05 else chance.uniform(-1e6, 1e6)


def _pairs(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _metric(point: Point) -> dict[str, Any]:
    key, step, time_ms, value = point
    return {"key": key, "step": step, "timestamp": time_ms, "value": float.fromhex(value)}


@contextmanager
def _errors_of_the_sdk(failures: list[str]) -> Iterator[None]:
    """The SDK tells losses by its log alone: training code must not fail for them."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            failures.append(record.getMessage())

    handler, logger = Handler(logging.ERROR), logging.getLogger("runfold")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


async def wrongs(installation: Installation, book: Book) -> list[str]:
    """Where the live read models contradict what was acknowledged: what is lost, twice there, or was never sent."""
    tables: dict[str, dict[str, dict[str, str]]] = {"run_param": {}, "run_tag": {}}
    heads: dict[str, tuple[str, str]] = {}
    async with open_pool(
        installation.services.postgres, installation.namespace, application="test", timeout=60
    ) as pool:
        for row in await pool.fetch("SELECT run_id, name, status FROM run"):
            heads[row["run_id"]] = (row["name"], row["status"])
        for table, found in tables.items():
            query = {"run_param": "SELECT * FROM run_param", "run_tag": "SELECT * FROM run_tag"}[table]
            for row in await pool.fetch(query):
                found.setdefault(row["run_id"], {})[row["key"]] = row["value"]
        points = await _raw_points(pool, {run.run_id for run in book.runs if run.sdk})
    wrong = [
        f"a run that nobody asked for: {run_id} {name}"
        for run_id, (name, _) in heads.items()
        if run_id not in {run.run_id for run in book.runs} and name not in book.unanswered_names
    ]
    for run in book.runs:
        name, status = heads.get(run.run_id, ("", ""))
        if name != run.name:
            wrong.append(f"{run.name}: is there as {name!r}")
        wrong += _unlike(run, "status", {"": run.status}, {"": status})
        wrong += _unlike(run, "params", run.params, tables["run_param"].get(run.run_id, {}))
        tags = {k: v for k, v in tables["run_tag"].get(run.run_id, {}).items() if not k.startswith("mlflow.")}
        wrong += _unlike(run, "tags", run.tags, tags)
        there = points.get(run.run_id, Counter())
        wrong += [f"{run.name}: lost {point}" for point in run.points if not there[point]]
        wrong += [
            f"{run.name}: {point} sent {run.sent_points[point]} times, there {count} times"
            for point, count in there.items()
            if count > run.sent_points[point]
        ]
    return wrong


def _unlike(run: RunBook, kind: str, acknowledged: dict[str, str], there: dict[str, str]) -> list[str]:
    """Acknowledged values must be there, unless another attempt may have taken effect, too."""
    wrong = [f"{run.name}: {kind} lost {key!r}" for key in acknowledged.keys() - there.keys()]
    for key, value in there.items():
        allowed = run.doubtful.get((kind, key), set()) | set(filter(None, [acknowledged.get(key)]))
        if value not in allowed:
            wrong.append(f"{run.name}: {kind} {key!r} is {value!r}, sent were {allowed}")
    return wrong


async def _raw_points(pool: Any, sdk: set[str]) -> dict[str, Counter[Point]]:
    """Every point as often as the segments hold it."""
    found: dict[str, Counter[Point]] = {}
    for row in await pool.fetch("SELECT run_id, head, data FROM segment"):
        points = found.setdefault(row["run_id"], Counter())
        for frame in read_segment(row["head"], row["data"]):
            for at, value in enumerate(frame.values):
                place, column = divmod(at, len(frame.keys))
                time_ms = 0 if row["run_id"] in sdk else frame.times[place]
                points[frame.keys[column], frame.steps[place], time_ms, value.hex()] += 1
    return found


def unequal(left: Rows, right: Rows) -> list[str]:
    """The first rows in which two installations differ, for as many rows as a load makes."""
    found = []
    for projection in Projection:
        ours, theirs = Counter(map(repr, left[projection])), Counter(map(repr, right[projection]))
        found += [f"{projection} only left: {row}" for row in itertools.islice(ours - theirs, 3)]
        found += [f"{projection} only right: {row}" for row in itertools.islice(theirs - ours, 3)]
    return found
