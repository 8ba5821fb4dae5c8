"""The registry as of an offset is what its live tables said when they stood there: models, versions, aliases, tags,
logged models and what was made of them, over generated histories, however they were cut into batches, where states were
kept, and memory was lost.
"""

from __future__ import annotations

import itertools
import os
from random import Random
from typing import Any

import pytest

from runfold_projections.control.migrations import migrate
from runfold_projections.core.projection import Projection
from runfold_projections.folding.decoding import decode_batch
from runfold_projections.folding.partition_fold import PartitionFold
from runfold_projections.history import journal as journals
from runfold_projections.logged_models.as_of import logged_model_at
from runfold_projections.logged_models.queries import get_logged_model
from runfold_projections.postgres.connection import Connection, open_connection, open_pool
from runfold_projections.registry.as_of import model_state_at, model_version_at, registered_model_at
from runfold_projections.registry.as_of import versions_of as past_versions_of
from runfold_projections.registry.queries import get_registered_model
from runfold_projections.registry.version_queries import get_model_version, versions_of
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from tests.support.histories import logged_models as model_histories
from tests.support.histories.generator import WORKSPACES, cut, history
from tests.support.histories.registry import NAMES
from tests.support.services.running import Services

_numbers = itertools.count(1)
SOAK = bool(os.environ.get("RUNFOLD_SOAK"))
SEEDS, LENGTH = (40, 600) if SOAK else (2, 250)
REGISTRY = Partition(Topic.REGISTRY, 0)
MOST = 10_000
Answers = dict[tuple[object, ...], Any]


async def shown_now(connection: Connection) -> Answers:
    """Everything that can be asked about, as it is."""
    found: Answers = {}
    for workspace, name in itertools.product(WORKSPACES, NAMES):
        model = found["model", workspace, name] = await get_registered_model(connection, workspace, name)
        found["versions", workspace, name] = (
            None if model is None else await versions_of(connection, model.creation_offset, 3, 1)
        )
        for number in range(1, 7):
            version = await get_model_version(connection, workspace, name, number)
            found["version", workspace, name, number] = version
    for workspace, model_id in itertools.product(WORKSPACES, model_histories.MODELS):
        found["logged", workspace, model_id] = await get_logged_model(connection, workspace, model_id)
    return found


async def shown_at(connection: Connection, offset: int) -> Answers:
    """The same as it was at an offset."""
    found: Answers = {}
    at = {REGISTRY: offset}
    for workspace, name in itertools.product(WORKSPACES, NAMES):
        found["model", workspace, name] = await registered_model_at(connection, workspace, name, at)
        one = await model_state_at(connection, workspace, name, at)
        found["versions", workspace, name] = None if one is None else past_versions_of(*one, 3, 1)
        for number in range(1, 7):
            version = await model_version_at(connection, workspace, name, number, at)
            found["version", workspace, name, number] = version
    for workspace, model_id in itertools.product(WORKSPACES, model_histories.MODELS):
        found["logged", workspace, model_id] = await logged_model_at(connection, workspace, model_id, at)
    return found


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_the_registry_as_of_an_offset_is_what_was_shown_there(
    services: Services, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = Random(seed)
    # Many states, or few and some made within a batch.
    monkeypatch.setattr(journals, "EVERY", (2, 5)[seed % 2])
    namespace = f"registry_past{next(_numbers)}"
    raws = history(Projection.REGISTRY, rng, LENGTH)
    await migrate(services.postgres, namespace)
    remembered: dict[int, Answers] = {0: {}}
    async with (
        open_pool(services.postgres, f"{namespace}_registry_1", application="test") as pool,
        open_connection(services.postgres, namespace, application="test") as reader,
    ):
        remembered[0] = await shown_now(reader)
        fold, checkpoint = PartitionFold(namespace, Projection.REGISTRY, REGISTRY, 1), None
        for batch in cut(rng, raws, 15):
            async with pool.acquire() as connection:
                decoded = decode_batch(batch, released_catalog(), 1, declared=())
                checkpoint = (await fold.apply(connection, checkpoint, decoded)).checkpoint
            if rng.random() < 0.1:
                fold.forget()
            if checkpoint is not None and rng.random() < 0.5:
                remembered[checkpoint.next_offset] = await shown_now(reader)
        kept = "SELECT count(*) FROM journal_state WHERE entity LIKE 'model:%'"
        assert await reader.fetchval(kept)
        seen = set()
        for offset, expected in remembered.items():
            found = await shown_at(reader, offset)
            for what, answer in expected.items():
                assert found[what] == answer, (offset, what)
                seen.add((what[0], answer is None))
    assert len(seen) == 8
