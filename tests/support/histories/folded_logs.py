"""Logs folded into tables, in batches cut at random, with compactions in between."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random

from runfold_projections.control.migrations import migrate
from runfold_projections.core.projection import Projection
from runfold_projections.folding.decoding import decode_batch
from runfold_projections.folding.partition_fold import PartitionFold
from runfold_projections.postgres.connection import Connection, open_connection, open_pool
from runfold_projections.segments.compaction import SegmentSource, compact_source
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Raw, Record
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition
from tests.support.histories.generator import cut
from tests.support.services.running import Services

_numbers = itertools.count(1)


@asynccontextmanager
async def folded(
    services: Services, logs: Mapping[Projection, Sequence[Raw]], rng: Random, most: int = 9
) -> AsyncIterator[Connection]:
    """A connection to the views over what these logs fold to, with pieces merged now and then and memory lost."""
    namespace = f"asof{next(_numbers)}"
    await migrate(services.postgres, namespace)
    for projection, raws in logs.items():
        where = Partition(projection.topic, 0)
        async with open_pool(services.postgres, f"{namespace}_{projection.value}_1", application="test") as pool:
            fold, checkpoint = PartitionFold(namespace, projection, where, 1), None
            for batch in cut(rng, raws, most):
                async with pool.acquire() as connection:
                    decoded = decode_batch(batch, released_catalog(), 1, declared=())
                    checkpoint = (await fold.apply(connection, checkpoint, decoded)).checkpoint
                if rng.random() < 0.1:
                    fold.forget()
                if projection is Projection.METRICS and rng.random() < 0.3:
                    for row in await pool.fetch("SELECT DISTINCT run_id, attempt, rank, branch FROM segment"):
                        await compact_source(pool, 0, SegmentSource(*row), quiet=True)
    async with (
        open_connection(services.postgres, namespace, application="test") as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


def told(raws: Sequence[Raw]) -> list[Record]:
    """What counts of a log: repeats left out."""
    found, seen = [], set()
    for record in decode_batch(list(raws), released_catalog(), 1).records:
        identity = (record.entity, record.envelope.writer.id, record.envelope.sequence)
        if isinstance(record.event, Genesis):
            if not record.position.offset:
                found.append(record)
        elif identity not in seen:
            seen.add(identity)
            found.append(record)
    return found
