"""Which runs each batch touched: what lets a reader that holds a state of the tables bring it up to date.

A row says: between `first_offset` and `next_offset` of the partition, nothing but these runs changed. It commits with the batch's
checkpoint, so in every snapshot the rows reach exactly as far as the checkpoint does. The rows of a partition follow one another
without a hole, from some offset on; what is older has gone, and a reader that stands there starts anew. How a log was cut into
batches shows in them, so they are no canonical rows.
"""

from collections.abc import Sequence

from runfold_projections.generations.generations import Projection
from runfold_projections.postgres.batch_statement import RowChange
from runfold_schemas.positions.position import Partition

KEPT_RUN_IDS = 200_000
"""So many run ids (of single-run batches: so many rows) are kept per partition, at least: about 20 MB."""
_BETWEEN_MARKS = KEPT_RUN_IDS // 10
_ROW_COSTS = 1


class ChangeLog:
    """Writes the rows of one partition, and takes away old ones. Holds nothing that a failed transaction would make wrong."""

    def __init__(self, projection: Projection, where: Partition) -> None:
        self._statements = _STATEMENTS.get(projection)
        self._partition = where.partition
        self._since_mark = 0
        self._marks: list[int] = []

    def changes(self, first_offset: int, next_offset: int, run_ids: Sequence[str]) -> list[RowChange]:
        """The row of a batch, and now and then the end of old ones. Also for a batch that touched nothing: it leaves no hole."""
        if self._statements is None or next_offset == first_offset:
            return []
        save, drop = self._statements
        found = [RowChange(save, (self._partition, first_offset, next_offset, list(run_ids)))]
        self._since_mark += len(run_ids) + _ROW_COSTS
        if self._since_mark > _BETWEEN_MARKS:
            self._since_mark = 0
            self._marks.append(first_offset)
            if len(self._marks) > KEPT_RUN_IDS // _BETWEEN_MARKS:
                found.append(RowChange(drop, (self._partition, self._marks.pop(0))))
        return found


_STATEMENTS = {
    Projection.RUNS: (
        """
        INSERT INTO run_change (partition, first_offset, next_offset, run_ids)
        SELECT $1::integer, $2::bigint, $3::bigint, $4::text[] WHERE EXISTS (SELECT FROM fence)
        """,
        "DELETE FROM run_change WHERE partition = $1::integer AND next_offset <= $2::bigint AND EXISTS (SELECT FROM fence)",
    ),
    Projection.METRICS: (
        """
        INSERT INTO metric_change (partition, first_offset, next_offset, run_ids)
        SELECT $1::integer, $2::bigint, $3::bigint, $4::text[] WHERE EXISTS (SELECT FROM fence)
        """,
        "DELETE FROM metric_change WHERE partition = $1::integer AND next_offset <= $2::bigint AND EXISTS (SELECT FROM fence)",
    ),
}
