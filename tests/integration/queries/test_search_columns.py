"""Columns, SQL and a plain Python model find the same runs in the same order, whatever happens between searches."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from runfold_projections.core.projection import Projection
from runfold_projections.folding.checkpoint import Checkpoint
from runfold_projections.folding.decoding import decode_batch
from runfold_projections.folding.partition_fold import PartitionFold
from runfold_projections.generations.generations import create_generation, switch
from runfold_projections.postgres.connection import Connection, Pool, open_connection, open_pool
from runfold_projections.postgres.read_transaction import read_transaction
from runfold_projections.run_search import run_columns, run_finder
from runfold_projections.run_search.change_feed import ChangeFeed
from runfold_projections.run_search.column_search import RunSearch
from runfold_projections.run_search.run_finder import RunFinder, SnapshotTooOld, run_ids_by_sql
from runfold_projections.runs.queries import Run, ViewType, parse_search, runs_by_id
from runfold_projections.search.tree import Among, Clause, Key, KeyKind, Operator, Order, Presence
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.experiments import ExperimentCreated, ExperimentDeleted, ExperimentRestored
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.metrics import BranchFact, MetricsLogged, RunForked, RunRewound
from runfold_schemas.events.runs import (
    DatasetInput,
    InputsLogged,
    ParamsLogged,
    RunCreated,
    RunDeleted,
    RunRestored,
    RunUpdated,
    TagsDeleted,
    TagsSet,
)
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, partition_count, partition_of
from tests.support.histories.generator import Scribe
from tests.support.services.postgres import Namespace, namespace, postgres_dsn

__all__ = ["namespace", "postgres_dsn"]

PARTITIONS = 2
NAN, INF = float("nan"), float("inf")
VALUES = [0.0, -0.0, 0.5, 0.5, 1.0, -3.0, 1e300, NAN, INF, -INF]
TEXTS = ["", "a", "b", "ab", "A%b", "a_b", "it's", "a\\b", "Ü", "ü1", "ß", "10", "9"]
IDS = [f"{number:032x}" for number in range(40)] + ["short", "A-b_c", "r" * 40]


def test_run_ids_meet_both_partitions() -> None:
    assert {partition_of(run_id.encode(), PARTITIONS) for run_id in IDS} == {0, 1}


@dataclass
class Log:
    """A log that is folded into the live generations as the test says, each partition on its own."""

    namespace: Namespace
    connections: dict[Topic, Connection]
    scribes: dict[Partition, Scribe] = field(default_factory=dict)
    folds: dict[Partition, PartitionFold] = field(default_factory=dict)
    checkpoints: dict[Partition, Checkpoint | None] = field(default_factory=dict)

    def append(self, event: Event) -> None:
        topic = _topic(event)
        parts = partition_count(topic, PARTITIONS)
        where = Partition(topic, partition_of((event.entity or "default").encode(), parts))
        if where not in self.scribes:
            self.scribes[where] = Scribe(where, parts)
            self.scribes[where].genesis()
        self.scribes[where].append(event)

    async def fold(self, where: Partition, most: int) -> None:
        before = self.checkpoints.get(where)
        raws = self.scribes[where].log[before.next_offset if before else 0 :][:most]
        if raws:
            fold = self.folds.setdefault(where, self._fold(where))
            batch = decode_batch(raws, released_catalog(), self.scribes[where].parts, declared=())
            self.checkpoints[where] = (await fold.apply(self.connections[where.topic], before, batch)).checkpoint

    def _fold(self, where: Partition) -> PartitionFold:
        return PartitionFold(self.namespace.name, Projection(where.topic.value), where, self.scribes[where].parts)


def _topic(event: Event) -> Topic:
    if isinstance(event, MetricsLogged | BranchFact):
        return Topic.METRICS
    return Topic.EXPERIMENTS if type(event).__name__.startswith("Experiment") else Topic.RUNS


@pytest.fixture
async def log(namespace: Namespace) -> AsyncIterator[Log]:
    async with AsyncExitStack() as stack:
        connections = {
            projection.topic: await stack.enter_async_context(
                open_connection(namespace.dsn, f"{namespace.name}_{projection.value}_1", application="test")
            )
            for projection in Projection
        }
        made = Log(namespace, connections)
        for name in ("one", "two", "three"):
            made.append(ExperimentCreated(name=name))
        yield made


@pytest.fixture
async def pool(namespace: Namespace) -> AsyncIterator[Pool]:
    async with open_pool(namespace.dsn, namespace.name, application="test") as opened:
        yield opened


def happening(rng: Random) -> Event:
    run_id = rng.choice(IDS)
    kind = rng.randint(0, 15)
    if kind < 4:
        return RunCreated(
            run_id=run_id,
            experiment_id=rng.choice([1, 1, 1, 2, 3]),
            name=rng.choice(TEXTS),
            user_id=rng.choice(TEXTS),
            start_ms=rng.choice([0, 0, 5, 7, 2**53 + 1, -1]),
            artifact_uri=rng.choice(TEXTS),
            tags={"team": rng.choice(TEXTS)},
        )
    if kind < 8:
        points = [
            Point(key, rng.choice(VALUES), rng.randint(0, 3), rng.randint(0, 3))
            for key in rng.sample(["loss", "acc", "other"], rng.randint(1, 3))
        ]
        if rng.random() < 0.2:
            # Wide rows share their layout with those of other runs, and are found by it.
            points[1:1] = [Point(f"w{n}", float(n), 0, 0) for n in range(rng.choice([70, 600]))]
        return MetricsLogged(run_id, from_points(points))
    if kind == 8:
        return RunUpdated(
            run_id=run_id, status=rng.choice([None, "FINISHED"]), end_ms=rng.choice([None, 0, 9, 2**53 + 1])
        )
    if kind == 9:
        return rng.choice([RunDeleted(run_id=run_id), RunRestored(run_id=run_id)])
    if kind == 14:
        parent, branch = rng.choice(IDS), rng.choice([0, 0, 1])
        return RunForked(run_id=run_id, parent_run_id=parent, parent_branch=branch, step=rng.randint(0, 3))
    if kind == 15:
        return RunRewound(run_id=run_id, step=rng.randint(0, 3))
    if kind == 10:
        return ParamsLogged(run_id=run_id, params={key: rng.choice(TEXTS) for key in rng.sample(["lr", "a b", "x"], 2)})
    if kind == 11:
        return rng.choice(
            [TagsSet(run_id=run_id, tags={"team": rng.choice(TEXTS)}), TagsDeleted(run_id=run_id, keys=["team"])]
        )
    if kind == 12:
        data = [
            DatasetInput(
                name=rng.choice(TEXTS[1:]),
                digest=rng.choice("xy"),
                source_type="s",
                source="s",
                tags=rng.choice([{}, {"mlflow.data.context": rng.choice(TEXTS)}]),
            )
            for _ in range(rng.randint(1, 3))
        ]
        return InputsLogged(run_id=run_id, datasets=data, models=[])
    return rng.choice([ExperimentDeleted(experiment_id=2), ExperimentRestored(experiment_id=2)])


def quoted(text: str) -> str:
    return '"' + text + '"' if "'" in text else "'" + text + "'"


def clause(rng: Random) -> str:
    number = rng.choice(["0", "0.5", "-3", "1e300", "1e999", "-1e999", "7", "9007199254740993", "9007199254740992.0"])
    comparator = rng.choice(["=", "!=", "<", "<=", ">", ">="])
    text = quoted(rng.choice([t for t in TEXTS if t != "a\\b"]))
    operator = rng.choice(["=", "!=", "LIKE", "ILIKE"])
    pattern = quoted(rng.choice(["%", "a%", "%B", "a_b", "%a%b%", "ü%", "A\\%b", "_", "%\\\\%", "", "0%", "%1%"]))
    keys = ["params.lr", "params.`a b`", "params.none", "tags.team", "tags.`mlflow.runName`", "status", "run_name"]
    keys += ["user_id", "artifact_uri", "run_id", "datasets.name", "datasets.digest", "datasets.context"]
    key = rng.choice(keys)
    kind = rng.randint(0, 9)
    if kind < 3:
        return f"metrics.{rng.choice(['loss', 'acc', 'none'])} {comparator} {number}"
    if kind == 3:
        return f"attributes.{rng.choice(['start_time', 'end_time'])} {comparator} {number}"
    if kind == 4:
        return f"{rng.choice(['params.lr', 'tags.team', 'params.x'])} IS {rng.choice(['', 'NOT '])}NULL"
    if kind == 5:
        wanted = ", ".join(quoted(value) for value in [*rng.sample(IDS, 5), "z" * 300])
        return f"run_id {rng.choice(['IN', 'NOT IN'])} ({wanted})"
    if kind == 6:
        return f"datasets.{rng.choice(['name', 'context'])} {rng.choice(['IN', 'NOT IN'])} ('a', 'ab', 'nowhere')"
    return f"{key} {operator} {pattern if 'LIKE' in operator else text}"


def orders(rng: Random) -> list[str]:
    keys = ["metrics.loss", "metrics.acc", "metrics.none", "params.lr", "params.`a b`", "tags.team", "start_time"]
    keys += ["end_time", "status", "run_name", "user_id", "run_id", "artifact_uri"]
    return [f"{key} {rng.choice(['ASC', 'DESC'])}" for key in rng.sample(keys, rng.choice([0, 1, 1, 2, 3]))]


# The model: one run after the other, in plain Python.

_ATTRIBUTES: dict[str, Callable[[Run], Any]] = {
    "run_id": lambda run: run.run_id,
    "run_name": lambda run: run.name,
    "status": lambda run: run.status,
    "artifact_uri": lambda run: run.artifact_uri,
    "user_id": lambda run: run.user_id,
    "start_time": lambda run: run.start_ms,
    "end_time": lambda run: run.end_ms,
}


def values_of(run: Run, kind: KeyKind, name: str) -> list[Any]:
    match kind:
        case KeyKind.METRIC:
            return [m.value for m in run.metrics if m.key == name]
        case KeyKind.PARAM:
            return [v for k, v in run.params.items() if k == name]
        case KeyKind.TAG:
            return [v for k, v in run.tags.items() if k == name]
        case KeyKind.ATTRIBUTE:
            value = _ATTRIBUTES[name](run)
            return [] if value is None else [value]
    found = [d.tags.get("mlflow.data.context") if name == "context" else getattr(d, name) for d in run.datasets]
    return [value for value in found if value is not None]


def like(value: str, pattern: str, flags: int) -> bool:
    out, characters = "", iter(pattern)
    for character in characters:
        if character == "\\":
            out += re.escape(next(characters))
        else:
            out += {"%": ".*", "_": "."}.get(character, re.escape(character))
    return re.fullmatch(out, value, flags | re.DOTALL) is not None


def holds(run: Run, clause: Clause) -> bool:
    values = values_of(run, clause.key.kind, clause.key.name)
    if isinstance(clause, Presence):
        return bool(values) == clause.present
    if isinstance(clause, Among):
        return any((value in clause.values) != clause.negated for value in values)
    wanted: Any = clause.value
    tests: dict[Operator, Callable[[Any], bool]] = {
        Operator.EQUAL: lambda v: v == wanted,
        Operator.UNEQUAL: lambda v: v != wanted,
        Operator.LESS: lambda v: v < wanted,
        Operator.AT_MOST: lambda v: v <= wanted,
        Operator.MORE: lambda v: v > wanted,
        Operator.AT_LEAST: lambda v: v >= wanted,
        Operator.LIKE: lambda v: like(v, wanted, 0),
        Operator.ILIKE: lambda v: like(v, wanted, re.IGNORECASE),
    }
    if isinstance(wanted, float) and clause.key.kind is KeyKind.ATTRIBUTE:
        values = [float(value) for value in values]  # as Postgres compares a bigint with a double
    return any(tests[clause.operator](value) for value in values)


def ordered(runs: list[Run], criteria: tuple[Order, ...]) -> list[Run]:
    found = sorted(runs, key=lambda run: run.run_id.encode())
    if not any(order.key.name == "start_time" and order.key.kind is KeyKind.ATTRIBUTE for order in criteria):
        found.sort(key=lambda run: -run.start_ms)
    for order in reversed(criteria):
        there: list[Any] = []
        nan: list[Any] = []
        missing: list[Any] = []
        for run in found:
            values = values_of(run, order.key.kind, order.key.name)
            group = missing if not values else nan if values[0] != values[0] else there
            group.append((values[0] if values else None, run))
        there.sort(key=lambda pair: pair[0], reverse=not order.ascending)
        found = [run for _, run in there + nan + missing]
    return found


async def model(connection: Connection, search: RunSearch) -> list[str]:
    rows = await connection.fetch(
        "SELECT run_id FROM run WHERE experiment_id = ANY ($1::bigint[])", list(search.scope.experiments)
    )
    runs = await runs_by_id(connection, [row[0] for row in rows], search.scope.deleted)
    shown = {
        ViewType.ALL: ("active", "deleted"),
        ViewType.ACTIVE_ONLY: ("active",),
        ViewType.DELETED_ONLY: ("deleted",),
    }[search.scope.view]
    runs = [run for run in runs if run.lifecycle_stage in shown and all(holds(run, c) for c in search.clauses)]
    return [run.run_id for run in ordered(runs, search.orders)]


async def some_search(connection: Connection, rng: Random) -> tuple[RunSearch, str]:
    text = " AND ".join(clause(rng) for _ in range(rng.choice([0, 1, 1, 2, 3])))
    order_by, view = orders(rng), rng.choice(list(ViewType))
    experiments = rng.choice([[1], [1], [1, 2], [2], [3, 1, 2], [9], [1, 9]])
    said = f"{experiments} {view} {text} ORDER BY {order_by}"
    return await parse_search(connection, experiments, text, view, order_by), said


@pytest.mark.parametrize("seed", range(12))
async def test_three_ways_to_search_find_the_same_while_the_log_goes_on(
    log: Log, pool: Pool, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = Random(seed)
    monkeypatch.setattr(run_finder, "_MOST_SKIPPED", -1)
    if seed % 3 == 0:
        monkeypatch.setattr(run_finder, "_LEAST_RELOAD", 0)
        monkeypatch.setattr(run_finder, "_SMALL_RUNS", 0)
    feed = ChangeFeed()
    finder = RunFinder(feed, 20_000 if seed % 4 == 1 else 10**9)
    found_any = 0
    for _ in range(25):
        for _ in range(rng.choice([0, 1, 3, 30])):
            log.append(happening(rng))
        for where in rng.sample(sorted(log.scribes), len(log.scribes)):
            await log.fold(where, rng.choice([0, 1, 4, 1000]))
        async with read_transaction(pool) as connection:
            epoch = await feed.epoch_of(connection)
            assert epoch is not None
            for _ in range(4):
                search, said = await some_search(connection, rng)
                limit, offset = rng.choice([1, 3, 100]), rng.choice([0, 0, 1, 5])
                expected = await model(connection, search)
                by_sql = await run_ids_by_sql(connection, search, 100, 0) if search.scope.experiments else []
                assert by_sql == expected, said
                by_columns = await finder.run_ids(connection, epoch, search, limit, offset)
                assert by_columns == expected[offset : offset + limit], (said, limit, offset)
                found_any += bool(by_columns)
    assert found_any > 5


async def test_a_snapshot_older_than_the_columns_is_refused_and_a_newer_one_served(log: Log, pool: Pool) -> None:
    runs = Partition(Topic.RUNS, partition_of(IDS[0].encode(), PARTITIONS))
    log.append(RunCreated(run_id=IDS[0], experiment_id=1, name="", user_id="", start_ms=1, artifact_uri=""))
    log.append(TagsSet(run_id=IDS[0], tags={"team": "late"}))
    await log.fold(runs, 2)
    feed = ChangeFeed()
    finder = RunFinder(feed, 10**9)
    async with read_transaction(pool) as old:
        search = await parse_search(old, [1], "tags.team = 'late'", ViewType.ALL, [])
        old_epoch = await feed.epoch_of(old)
        assert await finder.run_ids(old, old_epoch, search, 10, 0) == []
        await log.fold(runs, 1)
        async with read_transaction(pool) as new:
            epoch = await feed.epoch_of(new)
            assert await finder.run_ids(new, epoch, search, 10, 0) == [IDS[0]]
        assert await feed.epoch_of(old) is None
        with pytest.raises(SnapshotTooOld):
            await finder.run_ids(old, old_epoch, search, 10, 0)
        assert await finder.run_ids(old, None, search, 10, 0) == []


async def test_changes_that_are_forgotten_are_loaded_anew(log: Log, pool: Pool) -> None:
    for number in range(4):
        log.append(RunCreated(run_id=IDS[number], experiment_id=1, name="", user_id="", start_ms=1, artifact_uri=""))
    feed = ChangeFeed()
    finder = RunFinder(feed, 10**9)
    partitions = [Partition(Topic.RUNS, number) for number in range(PARTITIONS)]
    for where in partitions:
        await log.fold(where, 2)
    async with read_transaction(pool) as connection:
        search = await parse_search(connection, [1], "run_name = ''", ViewType.ALL, [])
        before = await finder.run_ids(connection, await feed.epoch_of(connection), search, 10, 0)
    for where in partitions:
        await log.fold(where, 1)
        await log.fold(where, 1000)
    await log.connections[Topic.RUNS].execute("DELETE FROM run_change WHERE first_offset = 2")
    async with read_transaction(pool) as connection:
        after = await finder.run_ids(connection, await feed.epoch_of(connection), search, 10, 0)
        assert after == await run_ids_by_sql(connection, search, 10, 0)
    assert len(after) == 4 > len(before)


async def test_what_is_too_large_for_the_memory_is_searched_by_sql(log: Log, pool: Pool) -> None:
    for number in range(30):
        log.append(
            RunCreated(
                run_id=IDS[number],
                experiment_id=1,
                name=f"{number}" * 50,
                user_id="u",
                start_ms=number,
                artifact_uri="",
                tags={"team": "x" * 3000},
            )
        )
    for where in [Partition(Topic.RUNS, number) for number in range(PARTITIONS)]:
        await log.fold(where, 1000)
    for most in (10, 1_500, 3_500, 20_000, 200_000):
        feed = ChangeFeed()
        finder = RunFinder(feed, most)
        async with read_transaction(pool) as connection:
            epoch = await feed.epoch_of(connection)
            for words in ("user_id = 'u'", "tags.team LIKE 'x%'", "run_name LIKE '%1'", "tags.team = 'x'") * 2:
                search = await parse_search(connection, [1], words, ViewType.ALL, ["run_name DESC"])
                found = await finder.run_ids(connection, epoch, search, 10, 0)
                assert found == await run_ids_by_sql(connection, search, 10, 0)
                assert finder.nbytes <= most


async def test_after_a_switch_of_generations_the_columns_are_the_new_ones(log: Log, pool: Pool) -> None:
    for number in range(6):
        log.append(RunCreated(run_id=IDS[number], experiment_id=1, name="n", user_id="", start_ms=1, artifact_uri=""))
    partitions = [Partition(Topic.RUNS, number) for number in range(PARTITIONS)]
    for where in partitions:
        await log.fold(where, 1000)
    feed = ChangeFeed()
    finder = RunFinder(feed, 10**9)

    async def both_ways() -> list[str]:
        async with read_transaction(pool) as connection:
            search = await parse_search(connection, [1], "run_name = 'n'", ViewType.ALL, [])
            found = await finder.run_ids(connection, await feed.epoch_of(connection), search, 10, 0)
            assert found == await run_ids_by_sql(connection, search, 10, 0)
            return found

    assert len(await both_ways()) == 6
    namespace = log.namespace
    async with open_connection(namespace.dsn, namespace.name, application="test") as control:
        async with control.transaction():
            generation = await create_generation(control, namespace.name, Projection.RUNS)
        log.folds.clear()
        log.checkpoints.clear()
        async with open_connection(namespace.dsn, generation.schema_name, application="test") as fresh:
            log.connections[Topic.RUNS] = fresh
            for where in partitions:
                await log.fold(where, 2)
            async with control.transaction():
                await switch(control, generation)
            assert len(await both_ways()) == 2
            await log.fold(partitions[0], 1000)
            assert len(await both_ways()) > 2


async def test_changes_of_a_partition_follow_one_another_without_a_hole(log: Log) -> None:
    rng = Random(3)
    for _ in range(200):
        log.append(happening(rng))
    for topic, table in ((Topic.RUNS, "run_change"), (Topic.METRICS, "metric_change")):
        for number in range(PARTITIONS):
            where = Partition(topic, number)
            for _ in range(200):
                await log.fold(where, rng.choice([1, 2, 7]))
            rows = await log.connections[topic].fetch(
                f"SELECT first_offset, next_offset FROM {table} WHERE partition = $1 ORDER BY next_offset",  # noqa: S608
                number,
            )
            offsets = [row[0] for row in rows] + [rows[-1][1]]
            assert offsets[0] == 0
            assert offsets[1:] == [row[1] for row in rows]
            assert offsets[-1] == len(log.scribes[where].log)


async def test_a_search_that_is_given_up_leaves_the_columns_that_it_has_loaded(
    log: Log, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(RunCreated(run_id="r", experiment_id=1, name="n", user_id="u", start_ms=1, artifact_uri=""))
    for where in list(log.scribes):
        await log.fold(where, 1000)
    loaded: list[str] = []
    load = run_columns.load_column

    async def loading(connection: Connection, experiment_ids: Sequence[int], key: Key, *sizes: int) -> Any:
        if len(loaded) == 2:
            loaded.append("given up")
            raise asyncio.CancelledError
        loaded.append(key.name)
        return await load(connection, experiment_ids, key, *sizes)

    monkeypatch.setattr(run_finder, "load_column", loading)
    feed = ChangeFeed()
    finder = RunFinder(feed, 1_000_000)
    async with read_transaction(pool) as connection:
        epoch = await feed.epoch_of(connection)
        search = await parse_search(connection, [1], "params.c IS NULL", ViewType.ALL, ["metrics.a", "metrics.b"])
        with pytest.raises(asyncio.CancelledError):
            await finder.run_ids(connection, epoch, search, 10, 0)
        assert await finder.run_ids(connection, epoch, search, 10, 0) == ["r"]
    assert sorted(loaded) == ["a", "b", "c", "given up"]
