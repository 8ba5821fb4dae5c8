"""Golden logs: records as they were written once, and what folding them meant.

Kept for ever, read back by every release.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from runfold_projections.core.projection import Projection
from runfold_projections.folding.checkpoint import Checkpoint
from runfold_projections.folding.decoding import decode_batch
from runfold_projections.folding.partition_fold import PartitionFold
from runfold_projections.generations.canonical_rows import canonical_rows
from runfold_projections.postgres.connection import open_pool
from runfold_projections.postgres.read_transaction import read_transaction
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Raw
from runfold_schemas.positions.position import Partition, Position

FOLDER = Path(__file__).parents[2] / "golden" / "logs"
Rows = list[list[Any]]
NONE_DECLARED: frozenset[int] = frozenset()
"""What `system` declares beyond this release's catalog."""


def to_json(raws: Iterable[Raw]) -> list[dict[str, Any]]:
    """Records as JSON: bytes in hexadecimal, except for headers, which are text."""
    return [
        {
            "position": str(raw.position),
            "timestamp_ms": raw.timestamp_ms,
            "key": None if raw.key is None else raw.key.hex(),
            "value": None if raw.value is None else raw.value.hex(),
            "headers": [[name, value.decode()] for name, value in raw.headers],
        }
        for raw in raws
    ]


def from_json(records: Iterable[dict[str, Any]]) -> list[Raw]:
    """The records again."""
    return [
        Raw(
            Position.parse(record["position"]),
            record["timestamp_ms"],
            None if record["key"] is None else bytes.fromhex(record["key"]),
            None if record["value"] is None else bytes.fromhex(record["value"]),
            [(name, value.encode()) for name, value in record["headers"]],
        )
        for record in records
    ]


async def fold_log(dsn: str, namespace: str, projection: Projection, batches: Sequence[Sequence[Raw]]) -> Rows:
    """Fold the batches of one partition into the (empty) live generation; answers its canonical rows as JSON."""
    where = Partition(projection.topic, 0)
    fold = PartitionFold(namespace, projection, where, 1)
    checkpoint: Checkpoint | None = None
    async with open_pool(dsn, f"{namespace}_{projection.value}_1", application="golden log") as pool:
        held: list[Raw] = []
        for batch in batches:
            # Without a genesis there is no checkpoint: a worker folds what it has read together with what comes next.
            held += batch
            async with pool.acquire() as connection:
                applied = await fold.apply(
                    connection, checkpoint, decode_batch(held, released_catalog(), 1, NONE_DECLARED)
                )
            checkpoint = applied.checkpoint
            if checkpoint is not None:
                held = []
        async with read_transaction(pool) as connection:
            return [[table, *map(_plain, row)] async for table, row in canonical_rows(connection, projection)]


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def read(path: Path) -> tuple[Projection, list[Raw], Rows]:
    """A golden log: its projection, records and rows."""
    stored = json.loads(path.read_text())
    return Projection(stored["projection"]), from_json(stored["records"]), stored["rows"]


def write(path: Path, projection: Projection, raws: Sequence[Raw], rows: Rows) -> None:
    """Keep a golden log, one record and one row a line; FileExistsError if it is there already."""

    def lines(items: Sequence[Any]) -> str:
        return ",\n".join("  " + json.dumps(item, ensure_ascii=False) for item in items)

    with path.open("x") as file:
        file.write(
            f'{{"projection": "{projection.value}", "records": [\n{lines(to_json(raws))}\n], '
            f'"rows": [\n{lines(rows)}\n]}}\n'
        )
