"""Runs out of the read models; MLflow's own in-memory search is the judge of filters and orders."""

import math
import warnings
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import pytest

from runfold_projections.core.errors import BadFilter, BadQuery
from runfold_projections.metrics.summaries import Latest, Summaries, Summary
from runfold_projections.postgres.connection import Connection, open_connection
from runfold_projections.runs.queries import (
    Dataset,
    LatestMetric,
    Run,
    RunInfo,
    ViewType,
    get_run,
    needs_metrics,
    run_info,
    search_runs,
)
from tests.support.services.postgres import Namespace, namespace, postgres_dsn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import entities
    from mlflow.utils.search_utils import SearchUtils

judge: Any = SearchUtils

__all__ = ["namespace", "postgres_dsn"]

NAN, INFINITY = float("nan"), float("inf")
LOSSES: list[float | None] = [0.5, NAN, None, 0.0, -1.5, INFINITY, -INFINITY, 0.5, NAN, None]
RATES: list[str | None] = ["0.1", "0.10", None, "Ab%c", "ab_c", "", "it's", "ü", None, "ab\\c"]
TEAMS: list[str | None] = [None, "red", "Red", "blue", "red", None, "green", "RED", "blue", "red"]
ENDS: list[int | None] = [None, 50, 10, 7, None, 50, 60, 8, 9, None]


def run_id(number: int) -> str:
    return f"{number:032x}"


def dataset_rows(number: int) -> list[tuple[str, str, dict[str, str]]]:
    if number % 4 == 1:
        return [("mnist", "d1", {"mlflow.data.context": "training"}), ("mnist", "d2", {"mlflow.data.context": "eval"})]
    return [("cifar", "d1", {})] if number % 4 == 2 else []


def the_run(number: int) -> Run:
    loss, rate, team = LOSSES[number], RATES[number], TEAMS[number]
    metrics = [LatestMetric("acc", number / 10, 3, 1000 + number, "m-1" if number == 1 else None, "mnist", "d1")]
    if loss is not None:
        metrics.append(LatestMetric("loss", loss, -number, 2000, None, None, None))
    return Run(
        run_id=run_id(number),
        experiment_id=1,
        name=f"Run {number}",
        user_id="ann" if number % 2 else "bob",
        status="FINISHED" if number % 3 else "RUNNING",
        start_ms=100 - number // 2,
        end_ms=ENDS[number],
        lifecycle_stage="active",
        artifact_uri=f"mlflow-artifacts:/1/{run_id(number)}/artifacts",
        params={"a b": str(number % 3)} | ({} if rate is None else {"rate": rate}),
        tags={"mlflow.runName": f"Run {number}"} | ({} if team is None else {"team": team}),
        metrics=metrics,
        datasets=[Dataset(n, d, "local", "{}", None, '{"rows": 1}', tags) for n, d, tags in dataset_rows(number)],
        models=["m-2", "m-1"] if number == 3 else [],
    )


RUNS = [the_run(number) for number in range(10)]


async def insert(connection: Connection, run: Run) -> None:
    await connection.execute(
        "INSERT INTO run VALUES ($1, 0, $2, $3, $4, $5, $6, $7, $8, NULL, $9, $10)",
        *(run.run_id, run.experiment_id, run.name, run.user_id, run.status, run.start_ms, run.end_ms),
        *(run.lifecycle_stage, run.artifact_uri, UUID(run.run_id)),
    )
    for table, pairs in (("run_param", run.params), ("run_tag", run.tags)):
        await connection.executemany(
            f"INSERT INTO {table} VALUES ($1, $2, $3)",  # noqa: S608 - two names of ours
            [(run.run_id, key, value) for key, value in pairs.items()],
        )
    summaries = Summaries()
    for m in run.metrics:
        latest = Latest(m.value, m.step, m.time_ms, m.model_id, m.dataset_name, m.dataset_digest)
        summaries.put(m.key, Summary(latest, None, None))
    for number in range(summaries.blocks):
        block = summaries.block(number)
        await connection.execute(
            "INSERT INTO metric_block (run_id, block, keys, numbers, contexts) VALUES ($1, $2, $3, $4, $5)",
            *(run.run_id, number, block.keys, block.numbers, block.contexts),
        )
    await connection.executemany(
        "INSERT INTO run_dataset VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        [
            (run.run_id, ordinal, d.name, d.digest, d.source_type, d.source, d.schema, d.profile, d.tags)
            for ordinal, d in enumerate(run.datasets)
        ],
    )
    await connection.executemany(
        "INSERT INTO run_model VALUES ($1, $2, $3)", [(run.run_id, at, model) for at, model in enumerate(run.models)]
    )


async def insert_experiment(connection: Connection, experiment_id: int, stage: str) -> None:
    await connection.execute(
        "INSERT INTO experiment VALUES ($1, 'default', 'e' || $1::bigint, '', $2, 1, 1, $3)",
        experiment_id,
        stage,
        UUID(int=experiment_id),
    )


@pytest.fixture
async def connection(namespace: Namespace) -> AsyncIterator[Connection]:
    async with (
        open_connection(namespace.dsn, namespace.name, application="test") as connection,
        connection.transaction(),
    ):
        await insert_experiment(connection, 1, "active")
        for run in reversed(RUNS):
            await insert(connection, run)
        yield connection


def as_mlflow(run: Run) -> Any:
    info = entities.RunInfo(
        run.run_id,
        str(run.experiment_id),
        run.user_id,
        run.status,
        run.start_ms,
        run.end_ms,
        run.lifecycle_stage,
        run.artifact_uri,
        run_name=run.name,
    )
    data = entities.RunData(
        [entities.Metric(m.key, m.value, m.time_ms, m.step) for m in run.metrics],
        [entities.Param(key, value) for key, value in run.params.items()],
        [entities.RunTag(key, value) for key, value in run.tags.items()],
    )
    inputs = entities.RunInputs(
        [
            entities.DatasetInput(
                entities.Dataset(d.name, d.digest, d.source_type, d.source),
                [entities.InputTag(key, value) for key, value in d.tags.items()],
            )
            for d in run.datasets
        ]
    )
    return entities.Run(info, data, inputs)


def ids(runs: Sequence[Run]) -> list[str]:
    return [run.run_id for run in runs]


async def search(
    connection: Connection, filter_string: str = "", order_by: Sequence[str] = (), view: ViewType = ViewType.ACTIVE_ONLY
) -> list[str]:
    return ids(await search_runs(connection, [1], filter_string, view, order_by, 100, 0))


FILTERS = [
    "",
    *(
        f"metrics.loss {op} {value}"
        for op in ("=", "!=", "<", "<=", ">", ">=")
        for value in ("0.5", "0", "-1e300", "1e300")
    ),
    *(
        f"params.rate {op} '{value}'"
        for op in ("=", "!=", "LIKE", "ILIKE")
        for value in ("0.1", "ab_c", "AB%", "%", "")
    ),
    *(f"tags.team {op} 'Red'" for op in ("=", "!=", "LIKE", "ILIKE")),
    'params.rate = "it\'s"',
    "params.rate ilike 'Ü'",
    "params.`a b` = '1' AND tags.team IS NOT NULL",
    "params.rate IS NULL",
    "tags.team IS NULL AND params.rate IS NOT NULL",
    "metrics.acc > 0.1 AND metrics.acc <= 0.7 AND metrics.loss != 0",
    "metrics.none > 0",
    # More clauses than become semijoins.
    *(
        f"metrics.acc >= 0 AND params.`a b` != 'x' AND tags.`mlflow.runName` LIKE 'Run%' AND {clause}"
        for clause in (
            "metrics.loss >= 0.5",
            "metrics.loss != 0.5",
            "metrics.loss < 1",
            "tags.team = 'red'",
            "params.rate != ''",
        )
    ),
    f"run_id = '{run_id(3)}'",
    f"run_id IN ('{run_id(3)}', '{run_id(5)}', 'x')",
    f"attributes.run_id NOT IN ('{run_id(3)}', '{run_id(5)}')",
    "run_name = 'Run 3'",
    "attributes.`run name` ILIKE 'run _' AND status != 'RUNNING'",
    "user_id LIKE 'a%' AND artifact_uri LIKE '%/artifacts'",
    *(
        f"{key} {op} {value}"
        for key in ("start_time", "end_time")
        for op in ("=", "!=", ">", "<=")
        for value in (50, 98)
    ),
    "created > 97.5 AND end_time < 99999999999999999999999",
    "datasets.name = 'mnist'",
    "dataset.digest = 'd1' AND dataset.name = 'mnist'",
    "datasets.digest IN ('d2', 'd3')",
    "datasets.context = 'eval'",
    "datasets.name != 'mnist'",
    "datasets.name LIKE 'c%' AND datasets.digest != 'd9'",
]


async def test_filters_find_what_mlflow_finds(connection: Connection) -> None:
    theirs = [as_mlflow(run) for run in RUNS]
    for filter_string in FILTERS:
        expected = {run.info.run_id for run in judge.filter(theirs, filter_string)}
        assert set(await search(connection, filter_string)) == expected, filter_string


ORDERS = [
    [],
    ["metrics.loss"],
    ["metrics.loss DESC"],
    ["metrics.none ASC", "run_id DESC"],
    ["params.`a b`", "metrics.loss DESC"],
    ["params.`a b` DESC", "tags.`mlflow.runName` DESC"],
    ["status", "user_id DESC"],
    ["start_time ASC"],
    ["attributes.created DESC", "metrics.acc"],
    ["run_name DESC"],
]


async def test_orders_are_mlflows(connection: Connection) -> None:
    theirs = [as_mlflow(run) for run in RUNS]
    for order_by in ORDERS:
        expected = [run.info.run_id for run in judge.sort(theirs, order_by)]
        assert await search(connection, "", order_by) == expected, order_by


@pytest.mark.parametrize(("key", "has_value"), [("end_time", ENDS), ("params.rate", RATES), ("tags.team", TEAMS)])
@pytest.mark.parametrize("direction", ["ASC", "DESC"])
async def test_runs_without_a_value_come_last(
    connection: Connection, key: str, direction: str, has_value: list[object]
) -> None:
    # MLflow's in-memory sort can't compare texts with its filler for None; its SQL store orders as asserted here.
    order = await search(connection, "", [f"{key} {direction}"])
    values = [has_value[int(found, 16)] for found in order]
    known = [value for value in values if value is not None]
    assert values == known + [None] * (len(values) - len(known))
    assert known == sorted(known, reverse=direction == "DESC")  # type: ignore[type-var]


async def test_pages_are_disjoint_and_complete(connection: Connection) -> None:
    pages = [ids(await search_runs(connection, [1], "", ViewType.ALL, ["metrics.loss"], 4, at)) for at in (0, 4, 8, 12)]
    assert [len(page) for page in pages] == [4, 4, 2, 0]
    assert [found for page in pages for found in page] == await search(connection, "", ["metrics.loss"])


async def test_a_found_run_is_whole(connection: Connection) -> None:
    found = await search_runs(connection, [1], "", ViewType.ALL, ["attributes.run_id"], 100, 0)
    assert repr(found) == repr(RUNS)  # repr: NaN equals itself in it
    for run in RUNS:
        assert repr(await get_run(connection, run.run_id)) == repr(run)
    first = RUNS[1]
    assert await run_info(connection, first.run_id) == RunInfo(
        first.run_id, 1, "active", first.status, first.name, first.artifact_uri
    )


async def test_latest_values_are_stored_as_they_are(connection: Connection) -> None:
    for number in (1, 5, 6):
        run = await get_run(connection, run_id(number))
        assert run is not None
        value = run.metrics[1].value
        assert math.isnan(value) if number == 1 else value == LOSSES[number]


async def test_unknown_runs_and_experiments_are_nothing(connection: Connection) -> None:
    assert await get_run(connection, "nope") is None
    assert await get_run(connection, "a\0b") is None
    assert await run_info(connection, "\ud800") is None
    assert await search_runs(connection, [], "", ViewType.ALL, [], 10, 0) == []
    assert await search_runs(connection, [5, 2**70], "", ViewType.ALL, [], 10, 0) == []
    assert await search_runs(connection, [1], "", ViewType.ALL, [], 0, 0) == []


async def test_bad_arguments_are_refused_even_where_nothing_could_be_found(connection: Connection) -> None:
    with pytest.raises(BadFilter):
        await search_runs(connection, [], "nonsense", ViewType.ALL, [], 10, 0)
    with pytest.raises(BadQuery):
        await search_runs(connection, [1], "", ViewType.ALL, [], 10, -1)


async def stages(connection: Connection, experiment_ids: list[int]) -> dict[ViewType, dict[str, str]]:
    return {
        view: {
            run.name: run.lifecycle_stage for run in await search_runs(connection, experiment_ids, "", view, [], 100, 0)
        }
        for view in ViewType
    }


async def test_a_run_is_deleted_with_itself_or_its_experiment(connection: Connection) -> None:
    await insert_experiment(connection, 2, "active")
    await insert_experiment(connection, 3, "deleted")
    await connection.execute("UPDATE run SET experiment_id = 2 WHERE run_id = ANY ($1)", [run_id(0), run_id(1)])
    await connection.execute("UPDATE run SET experiment_id = 3 WHERE run_id = ANY ($1)", [run_id(2)])
    await connection.execute("UPDATE run SET experiment_id = 4 WHERE run_id = ANY ($1)", [run_id(3)])
    await connection.execute("UPDATE run SET lifecycle_stage = 'deleted' WHERE run_id = $1", run_id(1))

    active = {"Run 0": "active", "Run 3": "active"}  # an experiment that is not there yet deletes nothing
    deleted = {"Run 1": "deleted", "Run 2": "deleted"}
    for several in ([2, 3, 4], [2, 3, 4, 2, 77]):
        assert await stages(connection, several) == {
            ViewType.ACTIVE_ONLY: active,
            ViewType.DELETED_ONLY: deleted,
            ViewType.ALL: active | deleted,
        }
    assert await stages(connection, [3]) == {
        ViewType.ACTIVE_ONLY: {},
        ViewType.DELETED_ONLY: {"Run 2": "deleted"},
        ViewType.ALL: {"Run 2": "deleted"},
    }
    head, run = await run_info(connection, run_id(2)), await get_run(connection, run_id(2))
    assert head is not None
    assert run is not None
    assert head.lifecycle_stage == run.lifecycle_stage == "deleted"


def test_a_search_needs_metrics_only_when_it_decides_by_them() -> None:
    assert needs_metrics("metrics.x > 1", [])
    assert needs_metrics("", ["params.x", "metric.y DESC"])
    assert not needs_metrics("params.metrics = 'x'", ["tags.x"])
    with pytest.raises(BadFilter):
        needs_metrics("nonsense", [])
