"""Canonical rows of a projection: what must be equal whenever the same log was folded, whatever the batches and
crashes.
"""

from collections.abc import AsyncIterator

from runfold_projections.catalog import canonical_tables
from runfold_projections.core.canonical import Listing, Row
from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import Connection


async def canonical_rows(connection: Connection, projection: Projection) -> AsyncIterator[tuple[str, Row]]:
    """Yield (table, row) in a fixed order. The connection sees the generation's schema, in a read transaction.

    Rows that are packed come one by one, under the name that they are shown as.
    """
    for table, canonical in canonical_tables(projection):
        if isinstance(canonical, Listing):
            for row in await connection.fetch(canonical.query):
                yield table, tuple(repr(value) if isinstance(value, float) else value for value in row)
        else:
            async for row in canonical.rows(connection):
                yield canonical.shown_as, tuple(row)
