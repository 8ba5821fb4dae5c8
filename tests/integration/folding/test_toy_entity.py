"""Adding an entity takes its folders and two central lines: one in the catalog, one in the routes.

`tests.support.toy_entity` holds what would be its schema module, its slice and its module of routes. The fixture makes
the two central edits, `ENTITIES` and `RAW`; nothing else of the program is touched.
"""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runfold_projections import catalog
from runfold_projections.control.migrations import check_migrated, migrate
from runfold_projections.core.errors import NotMigrated
from runfold_projections.core.projection import Projection
from runfold_projections.folding.checkpoint import Checkpoint
from runfold_projections.folding.decoding import decode_batch
from runfold_projections.folding.partition_fold import PartitionFold
from runfold_projections.generations.canonical_rows import canonical_rows
from runfold_projections.generations.comparison import differences
from runfold_projections.generations.generations import Generation, create_generation, generations, switch
from runfold_projections.generations.state_hash import state_hash
from runfold_projections.history.difference import differences_between
from runfold_projections.history.timeline import history_page, state_at
from runfold_projections.history.why import field_settings
from runfold_projections.postgres.connection import Connection, open_connection
from runfold_schemas.codec.catalog import Catalog, released_catalog
from runfold_schemas.codec.record import Raw
from runfold_schemas.events.all_events import FACTS
from runfold_schemas.events.registered_models import RegisteredModelCreated
from runfold_schemas.positions.position import Partition
from runfold_server.app import routes
from runfold_server.native.timeline.routes import timeline_operations
from runfold_server.openapi.document import document
from tests.support import toy_entity
from tests.support.histories.generator import Scribe
from tests.support.services.running import Services
from tests.support.toy_entity.entity import TOYS
from tests.support.toy_entity.events import EVENTS, ToyBroken, ToyMade, ToyPainted
from tests.support.toy_entity.fold import Toy
from tests.support.toy_entity.history import ToyHistory
from tests.support.toy_entity.queries import get_toy
from tests.support.toy_entity.rejections import ToyRejection
from tests.support.toy_entity.routes import OPERATIONS

REGISTRY = Partition(Projection.REGISTRY.topic, 0)
BEAR = [
    ToyMade(toy_id="bear", name="Bear", color="brown"),
    ToyMade(toy_id="bear", name="Other bear", color="white"),
    ToyPainted(toy_id="bear", color="blue"),
    RegisteredModelCreated(name="model"),
    ToyPainted(toy_id="duck", color="yellow"),
    ToyMade(toy_id="duck", name="Duck", color="yellow"),
    ToyBroken(toy_id="bear"),
    ToyPainted(toy_id="bear", color="red"),
]
"""Accepted, rejected (exists), accepted, …, rejected (no duck), …, rejected (broken)."""
_numbers = itertools.count(1)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schema module, and the two central edits."""
    schemas = released_catalog()
    for schema in Catalog.load(Path(toy_entity.__path__[0]) / "avsc").by_id.values():
        monkeypatch.setitem(schemas.by_id, schema.schema_id, schema)
        monkeypatch.setitem(schemas.subjects, schema.subject, [schema])
    for event in EVENTS:
        monkeypatch.setitem(FACTS, event.subject, event)
    monkeypatch.setattr(catalog, "ENTITIES", (*catalog.ENTITIES, TOYS))
    monkeypatch.setattr(routes, "RAW", (*routes.RAW, *OPERATIONS))


@pytest.fixture
async def control(services: Services, toys: None) -> AsyncIterator[Connection]:
    """A connection to the control schema of a new installation with toys."""
    namespace = f"toys_{next(_numbers)}"
    await migrate(services.postgres, namespace)
    async with open_connection(services.postgres, namespace, application="test") as connection:
        yield connection


def log() -> list[Raw]:
    scribe = Scribe(REGISTRY)
    scribe.genesis()
    for event in BEAR:
        scribe.append(event)
    return scribe.log


async def fold(services: Services, generation: Generation, raws: Sequence[Raw], batch: int) -> None:
    """Fold a log into a generation, so many records at a time."""
    namespace = generation.schema_name.rsplit("_", 2)[0]
    engine = PartitionFold(namespace, Projection.REGISTRY, REGISTRY, 1)
    checkpoint: Checkpoint | None = None
    async with open_connection(services.postgres, generation.schema_name, application="test") as connection:
        for at in range(0, len(raws), batch):
            some = decode_batch(raws[at : at + batch], released_catalog(), 1, declared=())
            assert not some.set_aside, some.set_aside
            checkpoint = (await engine.apply(connection, checkpoint, some)).checkpoint


@asynccontextmanager
async def reading(services: Services, generation: Generation) -> AsyncIterator[Connection]:
    """A connection to a generation, in a read transaction."""
    async with (
        open_connection(services.postgres, generation.schema_name, application="test") as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


async def live(control: Connection) -> Generation:
    return next(g for g in await generations(control) if g.projection is Projection.REGISTRY and g.state == "live")


async def test_a_toy_is_folded_and_read_back_through_the_views(services: Services, control: Connection) -> None:
    await fold(services, await live(control), log(), batch=3)
    assert await get_toy(control, "bear") == Toy("bear", "Bear", "blue", 1001, is_broken=True)
    assert await get_toy(control, "duck") == Toy("duck", "Duck", "yellow", 1006)
    assert await get_toy(control, "cat") is None
    rejected = await control.fetch("SELECT log_offset, code FROM rejection ORDER BY log_offset")
    assert [tuple(row) for row in rejected] == [
        (2, ToyRejection.EXISTS),
        (5, ToyRejection.NOT_FOUND),
        (8, ToyRejection.NOT_FOUND),
    ]
    assert await control.fetchval("SELECT count(*) FROM registered_model") == 1


async def test_a_rebuild_reaches_the_same_state_and_is_switched(services: Services, control: Connection) -> None:
    old = await live(control)
    await fold(services, old, log(), batch=100)
    async with control.transaction():
        new = await create_generation(control, old.schema_name.rsplit("_", 2)[0], Projection.REGISTRY)
    await fold(services, new, log(), batch=1)
    async with reading(services, old) as left, reading(services, new) as right:
        assert [one async for one in differences(left, right, Projection.REGISTRY)] == []
        assert await state_hash(left, Projection.REGISTRY) == await state_hash(right, Projection.REGISTRY)
        rows = [row async for table, row in canonical_rows(right, Projection.REGISTRY) if table == "toy"]
    assert rows == [("bear", "Bear", "blue", 1001, True), ("duck", "Duck", "yellow", 1006, False)]
    async with control.transaction():
        await switch(control, new)
    assert await get_toy(control, "duck") is not None


async def test_a_toy_that_differs_changes_the_hash_and_is_shown_by_its_key(
    services: Services, control: Connection
) -> None:
    old = await live(control)
    await fold(services, old, log(), batch=100)
    async with control.transaction():
        new = await create_generation(control, old.schema_name.rsplit("_", 2)[0], Projection.REGISTRY)
    await fold(services, new, log(), batch=100)
    async with open_connection(services.postgres, new.schema_name, application="test") as connection:
        await connection.execute("UPDATE toy SET color = 'green' WHERE toy_id = 'duck'")
    async with reading(services, old) as left, reading(services, new) as right:
        (found,) = [one async for one in differences(left, right, Projection.REGISTRY)]
        assert (found.table, found.key, found.column, found.old, found.new) == (
            "toy",
            {"toy_id": "duck"},
            "color",
            "yellow",
            "green",
        )
        assert await state_hash(left, Projection.REGISTRY) != await state_hash(right, Projection.REGISTRY)


async def test_a_toy_has_a_history(services: Services, control: Connection) -> None:
    await fold(services, await live(control), log(), batch=2)
    history = ToyHistory("bear")
    page = await history_page(control, history, first=0, end_offset=100, limit=10, newest=False)
    assert [(one.entry.offset, one.entry.code, len(one.changes)) for one in page.events] == [
        (1, "", 3),
        (2, "toy_exists", 0),
        (3, "", 1),
        (7, "", 1),
        (8, "toy_not_found", 0),
    ]
    about = await history_page(control, history, first=0, end_offset=100, limit=10, newest=True, about="color")
    assert [one.entry.offset for one in about.events] == [8, 3, 2, 1]
    colors = await field_settings(control, history, "color", 100)
    assert [(one.before, one.after) for one in colors] == [("brown", "blue"), (None, "brown")]
    assert await state_at(control, history, 3) == Toy("bear", "Bear", "brown", 1001)
    changes = await differences_between(control, history, 2, 100)
    assert [(one.field, one.before, one.after) for one in changes] == [
        ("color", "brown", "blue"),
        ("is_broken", False, True),
    ]
    (subject,) = [subject for subject in catalog.history_subjects() if subject.collection == "toys"]
    vector = {REGISTRY: 100}
    assert [one.entity for one in await subject.find(control, "bear", vector) or ()] == ["toy:bear"]
    assert await subject.find(control, "cat", vector) is None


async def test_all_else_follows_from_the_catalog(
    services: Services, toys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert catalog.rejection_meanings()[ToyRejection.EXISTS] == "A toy of this id was made before."
    paths = [operation.path for operation in timeline_operations(catalog.history_subjects())]
    assert {f"/api/runfold/v1/toys/{{toy_id}}/{what}" for what in ("events", "why", "diff")} <= set(paths)
    assert "/api/runfold/v1/toys/{toy_id}" in document({}, routes.RAW)["paths"]
    namespace = f"toys_{next(_numbers)}"
    with monkeypatch.context() as before:
        before.setattr(catalog, "ENTITIES", tuple(one for one in catalog.ENTITIES if one is not TOYS))
        await migrate(services.postgres, namespace)
    # A new entity is a new layout: the projection is folded again.
    async with open_connection(services.postgres, namespace, application="test") as connection:
        with pytest.raises(NotMigrated, match="tables of `registry` are of an older release"):
            await check_migrated(connection)
        assert await migrate(services.postgres, namespace) == [f"generation {namespace}_registry_2"]
        await check_migrated(connection)
