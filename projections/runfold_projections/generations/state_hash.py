"""A hash of a projection's canonical state, read as a stream: equal wherever the same log was folded up to the same
vector.

It covers the same state as `canonical_rows`, which is slower and shows the rows. Tables go through Postgres's binary
COPY, whose bytes depend on the values alone; packed rows through digests of their groups.
"""

import hashlib

from runfold_projections.catalog import canonical_tables
from runfold_projections.core.canonical import Listing, Packed
from runfold_projections.core.projection import Projection
from runfold_projections.postgres.connection import LONG_READ_SECONDS, Connection


async def state_hash(connection: Connection, projection: Projection) -> str:
    """Return the SHA-256 of the state, in hexadecimal. The connection sees the generation's schema, in a snapshot."""
    digest = hashlib.sha256()
    for table, canonical in canonical_tables(projection):
        digest.update(f"{table}\n".encode())
        digest.update(await table_digest(connection, canonical))
    return digest.hexdigest()


async def table_digest(connection: Connection, canonical: Listing | Packed) -> bytes:
    """Return the SHA-256 of one table's part of the state."""
    digest = hashlib.sha256()
    if isinstance(canonical, Packed):
        async for group in canonical.groups(connection):
            digest.update(repr(group.name).encode())
            digest.update(group.digest)
        return digest.digest()

    async def add(data: bytes) -> None:
        digest.update(data)

    await connection.copy_from_query(canonical.state_query, output=add, format="binary", timeout=LONG_READ_SECONDS)
    return digest.digest()
