"""Datasets that the runs of experiments used."""

from collections.abc import Sequence
from typing import NamedTuple

from runfold_projections.postgres.connection import Connection

CONTEXT_TAG = "mlflow.data.context"


class DatasetUse(NamedTuple):
    """A dataset and the context of its use (None: none), listed once however many runs used it."""

    experiment_id: int
    name: str
    digest: str
    context: str | None


_USES = """
SELECT * FROM (
    SELECT DISTINCT r.experiment_id, d.name, d.digest, d.tags ->> $2 AS context
    FROM run r JOIN run_dataset d USING (run_id)
    WHERE r.experiment_id = ANY ($1)
) AS used
ORDER BY experiment_id, name COLLATE "C", digest COLLATE "C", context COLLATE "C"
LIMIT $3
"""


async def dataset_uses(connection: Connection, experiment_ids: Sequence[int], limit: int) -> list[DatasetUse]:
    """Return the distinct uses by the experiments' runs, deleted ones too, by experiment, name, digest and context."""
    known = [number for number in experiment_ids if -(2**63) <= number < 2**63]
    return [DatasetUse(*row) for row in await connection.fetch(_USES, known, CONTEXT_TAG, limit)]
