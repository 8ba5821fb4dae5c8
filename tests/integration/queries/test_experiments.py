"""Experiments out of the read models."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest

from runfold_projections.core.errors import BadFilter, BadQuery
from runfold_projections.experiments.queries import (
    Experiment,
    ViewType,
    experiment_created_by,
    get_experiment,
    get_experiment_by_name,
    search_experiments,
)
from runfold_projections.postgres.connection import Connection, open_connection
from tests.support.services.postgres import Namespace, namespace, postgres_dsn

__all__ = ["namespace", "postgres_dsn"]


@pytest.fixture
async def connection(namespace: Namespace) -> AsyncIterator[Connection]:
    async with (
        open_connection(namespace.dsn, namespace.name, application="test") as connection,
        connection.transaction(),
    ):
        await connection.executemany(
            "INSERT INTO experiment VALUES ($1, $2, $3, 'mlflow-artifacts:/' || $1::bigint, $4, $5, $6, $7)",
            [
                (0, "default", "Default", "active", 100, 100, UUID(int=100)),
                (1, "default", "vision", "active", 300, 900, UUID(int=101)),
                (2, "default", "Vision old", "deleted", 200, 950, UUID(int=102)),
                (3, "default", "nlp_1", "active", 300, 300, UUID(int=103)),
                (4, "other", "vision", "active", 400, 400, UUID(int=104)),
            ],
        )
        await connection.executemany(
            "INSERT INTO experiment_tag VALUES ($1, $2, $3)",
            [(1, "team", "red"), (1, "mlflow.note.content", "it's"), (3, "team", "Blue"), (4, "team", "red")],
        )
        yield connection


def ids(found: Sequence[Experiment]) -> list[int]:
    return [experiment.experiment_id for experiment in found]


async def test_an_experiment_is_found_by_id_name_and_event(connection: Connection) -> None:
    vision = Experiment(
        1,
        "default",
        "vision",
        "mlflow-artifacts:/1",
        "active",
        300,
        900,
        {"mlflow.note.content": "it's", "team": "red"},
    )
    assert await get_experiment(connection, 1) == vision
    assert await get_experiment_by_name(connection, "default", "vision") == vision
    assert await experiment_created_by(connection, str(UUID(int=101))) == vision


async def test_a_deleted_experiment_is_still_found(connection: Connection) -> None:
    found = await get_experiment_by_name(connection, "default", "Vision old")
    assert found is not None
    assert found.lifecycle_stage == "deleted"
    assert found.tags == {}


async def test_names_belong_to_a_workspace(connection: Connection) -> None:
    found = await get_experiment_by_name(connection, "other", "vision")
    assert found is not None
    assert found.experiment_id == 4


async def test_what_does_not_exist_or_can_not_is_none(connection: Connection) -> None:
    assert await get_experiment(connection, 77) is None
    assert await get_experiment(connection, 2**70) is None
    assert await get_experiment_by_name(connection, "default", "VISION") is None
    assert await get_experiment_by_name(connection, "default", "a\0b") is None
    assert await experiment_created_by(connection, str(UUID(int=1))) is None
    assert await experiment_created_by(connection, "zz") is None


@pytest.mark.parametrize(
    ("filter_string", "expected"),
    [
        ("", [1, 3, 0]),
        ("name = 'vision'", [1]),
        ("name != 'vision'", [3, 0]),
        ("name LIKE 'V%'", []),
        ("name ILIKE 'V%'", [1]),
        (r"name LIKE 'nlp\_%'", [3]),
        ("attribute.name LIKE '%i%' AND creation_time >= 300", [1]),
        ("last_update_time < 300", [0]),
        ("experiment_id IN ('1', '0')", [1, 0]),
        ("experiment_id != '1'", [3, 0]),
        ("tags.team = 'red'", [1]),
        ("tags.team != 'red'", [3]),
        ("tag.team ilike 'blue'", [3]),
        ('tags.`mlflow.note.content` = "it\'s"', [1]),
        ("tags.team IS NULL", [0]),
        ("tags.experiment_id LIKE '%' AND tags.experiment_id != '1'", []),
        ("tags.team IS NOT NULL AND tags.`mlflow.note.content` IS NULL", [3]),
    ],
)
async def test_filters(connection: Connection, filter_string: str, expected: list[int]) -> None:
    assert (
        ids(await search_experiments(connection, "default", ViewType.ACTIVE_ONLY, filter_string, [], 10, 0)) == expected
    )


async def test_views_show_stages(connection: Connection) -> None:
    assert ids(await search_experiments(connection, "default", ViewType.DELETED_ONLY, "", [], 10, 0)) == [2]
    assert ids(await search_experiments(connection, "default", ViewType.ALL, "", [], 10, 0)) == [1, 3, 2, 0]


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        (["name"], [0, 3, 1]),
        (["name DESC"], [1, 3, 0]),
        (["creation_time"], [0, 3, 1]),  # ties: the later id first, as in MLflow's store
        (["creation_time DESC", "experiment_id"], [1, 3, 0]),
        (["last_update_time ASC"], [0, 3, 1]),
    ],
)
async def test_orders(connection: Connection, order_by: list[str], expected: list[int]) -> None:
    assert ids(await search_experiments(connection, "default", ViewType.ACTIVE_ONLY, "", order_by, 10, 0)) == expected


async def test_pages(connection: Connection) -> None:
    pages = [
        ids(await search_experiments(connection, "default", ViewType.ALL, "", [], 3, offset)) for offset in (0, 3, 6)
    ]
    assert pages == [[1, 3, 2], [0], []]
    with pytest.raises(BadQuery):
        await search_experiments(connection, "default", ViewType.ALL, "", [], 3, 2**63)
    with pytest.raises(BadFilter, match="Invalid order_by entity: tag"):
        await search_experiments(connection, "default", ViewType.ALL, "", ["tags.x"], 3, 0)
