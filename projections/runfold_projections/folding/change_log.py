"""The change log: which runs each batch touched, so that a reader that keeps a state of the tables can update it.

A row means: between `first_offset` and `next_offset` of the partition, only these runs changed. It commits with the
batch's checkpoint, so in every read transaction the rows end exactly at the checkpoint. The rows of a partition are
contiguous from some offset on; older ones are deleted, and a reader of an older state starts over. The rows show how
the log was cut into batches, so they are not canonical.
"""

from collections.abc import Sequence

from runfold_projections.postgres.batch_statement import RowChange
from runfold_projections.postgres.connection import identifier
from runfold_schemas.positions.position import Partition

KEPT_RUN_IDS = 200_000
"""Run ids kept per partition, at least; with single-run batches as many rows. About 20 MB."""
_BETWEEN_MARKS = KEPT_RUN_IDS // 10
_ROW_COSTS = 1


class ChangeLog:
    """Writes the rows of one partition and deletes old ones.

    Holds no state that a failed transaction would invalidate.
    """

    def __init__(self, table: str | None, where: Partition) -> None:
        self._statements = None if table is None else _statements(table)
        self._partition = where.partition
        self._since_mark = 0
        self._marks: list[int] = []

    def changes(self, first_offset: int, next_offset: int, run_ids: Sequence[str]) -> list[RowChange]:
        """Return the change that adds the row of a batch, and sometimes one that deletes old rows.

        A batch that touched nothing has a row, too: rows are contiguous.
        """
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


def _statements(table: str) -> tuple[str, str]:
    """Return the statements that save the row of a batch, and that delete old rows."""
    name = identifier(table)
    return (
        f"""
        INSERT INTO {name} (partition, first_offset, next_offset, run_ids)
        SELECT $1::integer, $2::bigint, $3::bigint, $4::text[] WHERE EXISTS (SELECT FROM fence)
        """,  # noqa: S608 - checked and quoted
        f"""
        DELETE FROM {name} WHERE partition = $1::integer AND next_offset <= $2::bigint AND EXISTS (SELECT FROM fence)
        """,  # noqa: S608 - checked and quoted
    )
